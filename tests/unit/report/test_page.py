"""The report page is complete, self-contained, and safe with text from the web."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

from react_ray.report.data import MEAN, Picture, ReportData, Seed
from react_ray.report.page import MAX_FILE_BYTES, render
from tests.support.report_example import ARMS, EVIL, picture, report

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Checks the nesting of tags, and collects what the page would load or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.text += data


def test_each_arm_is_compared_with_the_base_of_its_own_backbone() -> None:
    data = dataclasses.replace(
        report(num_seeds=1),
        arms={"base": "base B", "random": "random pairs", "base.large": "base L", "large": "large"},
        bases={"random": "base", "large": "base.large"},
        compared="large",
        tasks={"food": {"base": 0.3, "random": 0.25, "base.large": 0.5, "large": 0.62}},
        mean={"base": 0.3, "random": 0.25, "base.large": 0.5, "large": 0.62},
        curves={},
    )
    gains = [data.gain_over_base(MEAN, arm) for arm in data.arms]
    assert [gain and round(gain.mean, 3) for gain in gains] == [None, -0.05, None, 0.12]
    html = render(data)
    assert "+12.0 against base L" in html and "−5.0 against base B" in html and html.count("the start of its arms") == 2
    lead = Page(html[html.index('<p class="lead">') :].partition("</p>")[0] + "</p>").text
    assert lead.endswith("(mean over one task, one seed): +12.0 points against base L.")
    assert "the change against the base of its own backbone" in html and "large against base L, seed 0" in html


def test_the_page_needs_nothing_outside_itself() -> None:
    html = render(report())
    page = Page(html)
    assert "script" not in page.tags and "link" not in page.tags and "iframe" not in page.tags
    assert page.handlers == []
    assert all(address.startswith(("data:image/webp;base64,", "#m")) for address in page.addresses)
    assert "http:" not in html and "https:" not in html and "url(" not in html and "@import" not in html
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert "prefers-color-scheme: dark" in html


def test_text_from_the_web_is_text_wherever_it_stands() -> None:
    html = render(report())
    assert "<script" not in html and "alert('x')" not in html
    page = Page(html)
    # title, heading, one class of each task gained or lost, a class and 4 captions of the gallery, a note
    assert page.text.count(EVIL) >= 8


def test_hostile_names_of_arms_tasks_and_references_stay_text() -> None:
    data = report()
    data.arms = {arm: EVIL for arm in ARMS}
    data.tasks = {EVIL: next(iter(data.tasks.values()))}
    data.reference_lines = {EVIL: {EVIL: 0.5}}
    data.other_seeds, data.num_images = [], {EVIL: 3}
    assert "script" not in Page(render(data)).tags


def test_every_section_appears_and_every_picture_is_kept() -> None:
    data = report()
    page = Page(render(data))
    for heading in (
        "Tasks and arms",
        "Classes gained and lost",
        "What was retrieved",
        "Training",
        "Stages",
        "Notes",
        "Recipe",
    ):
        assert heading in page.text
    assert page.tags.count("img") == sum(len(pictures) for _, pictures in data.gallery) == 32
    assert page.tags.count("figure") - page.tags.count("img") == 5  # line charts
    assert "99.997" not in page.text and "noto, Apache-2.0" in page.text


def test_a_report_of_scores_alone_has_no_empty_sections() -> None:
    data = ReportData(
        name="only scores", seed=7, arms={"base": "base"}, tasks={"food": {"base": 0.25}}, mean={"base": 0.25}
    )
    page = Page(render(data))
    assert "25.0" in page.text and "one seed" in page.text
    for heading in ("Classes gained", "What was retrieved", "Training", "Stages", "Notes", "Recipe"):
        assert heading not in page.text


def test_gains_are_paired_by_seed() -> None:
    data = ReportData(
        name="x",
        seed=0,
        arms={"base": "base", "b": "B"},
        tasks={"t": {"base": 0.2, "b": 0.3}},
        mean={"base": 0.2, "b": 0.3},
    )
    data.other_seeds = [Seed(1, {"t": {"base": 0.4, "b": 0.5}}, {"base": 0.4, "b": 0.5})]
    spread, gain = data.spread(MEAN, "b"), data.gain(MEAN, "b", "base")
    assert spread is not None and gain is not None
    assert round(spread.mean, 9) == 0.4 and round(spread.std, 6) == 0.141421 and spread.num_seeds == 2
    assert round(gain.mean, 9) == 0.1 and abs(gain.std) < 1e-12
    assert "+10.0" in render(data)


def test_the_file_stays_small_and_says_what_it_left_out() -> None:
    data = report()
    big = [Picture(picture(seed) + bytes(150_000), f"pair {seed}", 0.5, "text") for seed in range(8)]
    data.gallery = [(f"class {i}", big) for i in range(6)]
    html = render(data)
    page = Page(html)
    kept = page.tags.count("img")
    assert len(html.encode()) <= MAX_FILE_BYTES and 12 <= kept < 48
    assert f"{48 - kept} pictures are left out" in page.text
    for i in range(6):  # fair: every class keeps its best ones
        assert f"class {i}" in page.text
    assert min(page.text.count(f"pair {rank}") for rank in range(2)) == 6


def test_bytes_that_are_no_image_are_not_given_to_a_browser() -> None:
    data = report()
    data.gallery = [
        ("heron", [Picture(b"<svg onload=alert(1)>", "svg", 0.5, "text"), Picture(picture(1), "ok", 0.4, "text")])
    ]
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


def test_the_total_counts_the_images_of_the_shown_tasks_once() -> None:
    data = report()
    total = sum(data.num_images.values())
    data.num_images["mean"] = total
    assert f'<td class="n mute count">{total}</td>' in render(data)


def test_the_same_data_gives_the_same_bytes() -> None:
    assert render(report()) == render(dataclasses.replace(report()))
