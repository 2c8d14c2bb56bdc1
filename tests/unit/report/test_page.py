"""The report page is complete, self-contained, and safe with text from the web."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re

from react_ray.report.classes import MAX_ROWS
from react_ray.report.data import MEAN, ClassRow, Flip, ReportData, Step
from react_ray.report.intervals import Gain
from react_ray.report.page import MAX_FILE_BYTES, render
from react_ray.report.script import SCRIPT
from tests.support.html_page import Page
from tests.support.report_example import EVIL, ROWS, entry, pair, picture, report


def test_each_arm_is_compared_with_the_base_of_its_own_backbone() -> None:
    data = dataclasses.replace(
        report(num_seeds=1),
        labels={"base": "base B", "random": "random pairs", "base.large": "base L", "large": "large"},
        bases={"random": "base", "large": "base.large"},
        tasks={"food": {"base": 0.3, "random": 0.25, "base.large": 0.5, "large": 0.62}},
        mean={"base": 0.3, "random": 0.25, "base.large": 0.5, "large": 0.62},
        gains={
            ("mean", "random", "base"): Gain(-0.05, -0.09, -0.01, 20),
            ("mean", "large", "base.large"): Gain(0.12, 0.02, 0.2, 20),
        },
        other_sets={},
        curves={},
    )
    assert [gain and gain.value for gain in (data.gain(MEAN, arm) for arm in data.labels)] == [None, -0.05, None, 0.12]
    html = render(data)
    page = Page(html)
    assert "+12.0 [2.0, 20.0]" in page.text and "−5.0 [−9.0, −1.0]" in page.text
    assert "Large classifies 62.0 % of the images of test correctly, 12.0 points [2.0, 20.0] more than base L." in html
    assert '<th scope="col" class="n">against its base</th>' in html and html.count("<small>a base</small>") == 2


def test_the_page_needs_nothing_outside_itself() -> None:
    html = render(report())
    page = Page(html)
    assert page.tags.count("script") == 1 and "link" not in page.tags and "iframe" not in page.tags
    assert page.handlers == []
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert (
        f"<script>{SCRIPT}</script>" in html
        and "default-src 'none'; img-src data:; style-src 'unsafe-inline'; " in html
    )
    assert f"script-src 'sha256-{digest}'" in html
    assert all(address.startswith(("data:image/webp;base64,", "#m")) for address in [*page.loads, *page.links])
    assert "http:" not in html and "https:" not in html and "url(" not in html and "@import" not in html
    assert {address[1:] for address in [*page.loads, *page.links] if address.startswith("#")} <= set(page.ids)
    assert "prefers-color-scheme: dark" in html


def test_text_from_the_web_is_text_wherever_it_stands() -> None:
    html = render(report())
    assert html.count("<script") == 1 and "alert('x')" not in html
    page = Page(html)
    # title, heading, advice, a class of each task with its flag, flipped images, confusions, the hint, a class and 4
    # captions of the gallery, a note
    assert page.text.count(EVIL) >= 30


def test_hostile_names_of_rows_and_tasks_stay_text() -> None:
    data = report()
    data.labels = {row: EVIL for row in ROWS}
    data.tasks = {EVIL: next(iter(data.tasks.values()))}
    data.dataset, data.next_step = EVIL, EVIL
    data.steps, data.other_sets = [Step(EVIL, "done", EVIL)], {EVIL: Gain(0.1, 0, 0.2, 9)}
    data.flipped = {EVIL: (1, 1)}
    data.other_seeds, data.num_images = [], {EVIL: 3}
    assert Page(render(data)).tags.count("script") == 1


def test_every_section_appears_and_every_picture_is_kept() -> None:
    data = report()
    page = Page(render(data))
    for heading in (
        "Methods and baselines",
        "What to try next",
        "Images that flipped",
        "All 60 classes",
        "Confusions",
        "What was retrieved",
        "Training",
        "Stages",
        "Notes",
        "Recipe",
    ):
        assert heading in page.text
    assert page.tags.count("img") == sum(len(one.best) for one in data.gallery) + len(data.flips) == 32 + 12
    assert page.tags.count("figure") - page.tags.count("img") == 5  # line charts
    assert "99.997" not in page.text and "noto, Apache-2.0" in page.text


def test_a_report_of_scores_alone_has_no_empty_sections() -> None:
    data = ReportData(
        name="only scores", seed=7, labels={"base": "base"}, tasks={"food": {"base": 0.25}}, mean={"base": 0.25}
    )
    page = Page(render(data))
    assert "25.0" in page.text and "one seed" in page.text
    for heading in (
        "try next",
        "flipped",
        "classes",
        "Confusions",
        "retrieved",
        "Training",
        "Stages",
        "Notes",
        "Recipe",
    ):
        assert heading not in page.text, heading


def test_a_run_without_scores_says_what_is_there_and_what_comes_next() -> None:
    data = ReportData(
        name="early",
        seed=0,
        labels={"base": "base", "arm": "arm"},
        steps=[Step("ingest", "done", "1,200 pairs"), Step("retrieve", "begun"), Step("customize", "open")],
        next_step="Next: `react-ray run RECIPE`.",
        classes=[ClassRow("food", "heron", pairs=4), ClassRow("food", "accordion", pairs=2, flags=("no name",))],
        gallery=report().gallery,
    )
    page = Page(render(data))
    for text in (
        "✓ ingest",
        "1,200 pairs",
        "… retrieve",
        "○ customize",
        "Next: react-ray run RECIPE.",
        "All 2 classes",
    ):
        assert text in page.text, text
    assert page.text.index("accordion") < page.text.index("heron")  # the class that does not match comes first
    for heading in ("Methods and baselines", "flipped", "Confusions", "Training", "nan"):
        assert heading not in page.text, heading


def test_an_arm_has_one_mark_and_colour_wherever_it_is_shown() -> None:
    data = report(num_seeds=1)
    for scores in [data.mean, *data.tasks.values()]:
        del scores["random"]
    html = render(data)
    places = re.findall(
        r'class="mark (a\d)" aria-hidden="true"><use href="#(m\d)"/></svg>(?:only |<bdi>)?([a-z ]+)', html
    )
    assert {(colour, symbol) for colour, symbol, label in places if label.startswith("gated image")} == {("a3", "m3")}
    assert {colour for colour, _, label in places if label.startswith("locked text")} == {"a2"}
    assert '"line a3"' in html and '"bar a3"' in html


def test_every_class_is_in_the_table_and_what_is_cut_is_said() -> None:
    data = report()
    data.classes = [ClassRow("imagenet21k", f"class {i}", 1, 0, 1, 20) for i in range(MAX_ROWS + 5)]
    html = render(data)
    assert html.count("<small><bdi>imagenet21k</bdi></small>") == MAX_ROWS and "5 more classes are left out" in html
    assert len(html.encode()) <= MAX_FILE_BYTES


def test_the_file_stays_small_and_says_what_it_left_out() -> None:
    data = report()
    big = [pair(seed, f"pair {seed}", picture(seed) + bytes(150_000)) for seed in range(8)]
    data.gallery = [entry(f"class {i}", big) for i in range(6)]
    html = render(data)
    page = Page(html)
    kept = page.tags.count("img") - len(data.flips)
    assert len(html.encode()) <= MAX_FILE_BYTES and 12 <= kept < 48
    assert f"{48 - kept} pairs are left out" in page.text
    for i in range(6):  # fair: every class keeps its best ones
        assert f"class {i}" in page.text
    assert min(page.text.count(f"pair {rank}") for rank in range(2)) == 6


def test_bytes_that_are_no_image_are_not_given_to_a_browser() -> None:
    data = report()
    data.gallery = [entry("heron", [pair(0, "svg", b"<svg onload=alert(1)>"), pair(1, "ok")])]
    data.flips = [Flip("food", "heron", "owl", "heron", b"<svg onload=alert(1)>")]
    assert Page(render(data)).tags.count("img") == 1


def test_missing_arms_and_infinite_losses_leave_gaps_not_errors() -> None:
    data = report()
    del data.tasks["food"]["random"]
    data.other_seeds = []
    data.curves["gated_image"][3]["loss"] = float("nan")
    data.curves["random"] = []
    html = render(data)
    Page(html)
    paths = re.findall(r' d="(M[^"]*)"', html)
    assert paths and not any("nan" in path or "inf" in path for path in paths)


def test_the_same_data_gives_the_same_bytes() -> None:
    assert render(report()) == render(dataclasses.replace(report()))
