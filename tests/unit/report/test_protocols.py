"""The page's scores of other protocols: curves over shots that begin at the prompts, and a table for any figure."""

from __future__ import annotations

import re

from react_ray.evals.score import ALL_SHOTS, ZERO_SHOT, Score, place_of
from react_ray.report.data import ReportData
from react_ray.report.intervals import Gain
from react_ray.report.protocols import protocols

SEEDS = {1: (0.3, 0.4, 0.5), 4: (0.6,), ALL_SHOTS: (0.8,)}


def few(model: str, method: str, more: float = 0.0, setting: str = "") -> list[Score]:
    return [
        Score(method, model, "test", task, metric, value + more, 90, shots, seed, setting)
        for task, metric in (("birds", "top1"), ("mean", "task_metric"))
        for shots, values in SEEDS.items()
        for seed, value in enumerate(values)
    ]


def data(*scores: Score) -> ReportData:
    return ReportData("x", 0, {"base": "base CLIP", "gated": "gated <image>"}, scores=list(scores))


def rows(html: str) -> list[list[str]]:
    """The cells of all rows, as text."""
    of = [re.findall(r"<t[hd][^>]*>(?:<span class=\"of\">.*?</span>)?(.*?)</t[hd]>", row) for row in html.split("<tr>")]
    return [cells for cells in of if cells]


def test_a_run_of_zero_shot_alone_has_no_section() -> None:
    assert protocols(data(Score(ZERO_SHOT, "base", "test", "mean", "task_metric", 0.2, 90))) == ""


def test_shots_are_curves_from_the_prompts_to_all_labels() -> None:
    zero = [Score(ZERO_SHOT, model, "test", "mean", "task_metric", 0.2, 90) for model in ("base", "gated")]
    html = protocols(data(*zero, *few("base", "linear-probe"), *few("gated", "linear-probe", 0.1)))
    assert "<h2>Few labels</h2>" in html and "<h2>Other protocols</h2>" not in html
    assert html.count("<figure") == 1 and "gated &lt;image&gt;" in html and "gated <image>" not in html
    lines = re.findall(r'class="line (a\d)" d="M([^"]+)"', html)
    assert [index for index, _ in lines] == ["a0", "a1"]
    assert all(len(path.split()) == 8 for _, path in lines)  # x and y of 0, 1 and 4 shots and all labels
    assert [text for text in re.findall(r'text-anchor="middle">([^<]+)<', html)][:4] == ["0", "1", "4", "all"]
    assert rows(html) == [
        ["", "method", "0 shots", "1 shots", "4 shots", "all shots"],
        ["base CLIP", "linear-probe", "20.0", "40.0 ± 10.0", "60.0", "80.0"],
        ["gated &lt;image&gt;", "linear-probe", "20.0", "50.0 ± 10.0", "70.0", "90.0"],
    ]


def test_methods_have_charts_of_one_axis_and_a_choice_by_the_test_set_is_named() -> None:
    html = protocols(
        data(*few("base", "tip-adapter"), *few("base", "elevater-probe", 0.1, "best epoch on the test set"))
    )
    assert html.count("<figure") == 2 and "elevater-probe, best epoch on the test set" in html
    ticks = [re.findall(r'text-anchor="end">(\d+)<', figure) for figure in html.split("<figure")[1:]]
    assert ticks[0] == ticks[1] and ticks[0]
    assert rows(html)[1][2] == "–"  # nothing says what the prompts reach


def test_any_other_figure_has_a_column() -> None:
    scores = [
        Score("image-text-retrieval", model, "captions", "captions", f"image_recall@{k}", value + k / 100, 10)
        for model, value in (("base", 0.5), ("gated", 0.6))
        for k in (1, 5)
    ]
    scores.append(Score("segmentation", "base", "masks", "scenes", "miou", 0.25, 7))
    html = protocols(data(*scores))
    assert "image-text-retrieval on captions, points over 10 images, texts or boxes" in html
    assert rows(html) == [
        ["", "image_recall@1", "image_recall@5"],
        ["base CLIP", "51.0", "55.0"],
        ["gated &lt;image&gt;", "61.0", "65.0"],
        ["", "scenes miou"],
        ["base CLIP", "25.0"],
    ]


def test_only_a_difference_beyond_its_interval_is_coloured() -> None:
    scores = [Score("segmentation", model, "x", "", metric, 0.5, 7) for model in ("base", "gated") for metric in "ab"]
    shown = data(*scores)
    shown.score_gains = {
        place_of(scores[2]): Gain(-0.2, -0.3, -0.1, 40, p=0.001),
        place_of(scores[3]): Gain(0.1, -0.1, 0.3, 40, p=0.3),
    }
    html = protocols(shown)
    assert '50.0 <span class="loss">−20.0 [−30.0, −10.0]</span>' in html
    assert '50.0 <span class="same">+10.0 [−10.0, 30.0]</span>' in html and 'class="gain"' not in html
    assert "Brackets are the 95 % interval" in html and "Brackets" not in protocols(data(*scores))
