"""The page's curves over labelled images in training: points, whiskers, and the differences between arms."""

from __future__ import annotations

import re

from react_ray.evals.score import ALL_SHOTS
from react_ray.report.data import LABELS_ALONE, MEAN, LabelCurve, ReportData
from react_ray.report.intervals import Gain
from react_ray.report.label_curves import label_curves

MEANS = {"base": 0.3, "pairs": 0.4, "alone_1": 0.35, "alone_4": 0.45, "mixed_1": 0.42, "mixed_4": 0.5}
MIXED = "retrieved pairs & 50 % labels"
CURVE = LabelCurve(
    "locked-text",
    "pairs",
    {MIXED: {4: "mixed_4", 1: "mixed_1", ALL_SHOTS: "mixed_all"}, LABELS_ALONE: {1: "alone_1", 4: "alone_4"}},
)


def report(curve: LabelCurve) -> ReportData:
    gains = {
        (MEAN, one, other): Gain(value := MEANS[one] - MEANS[other], value - 0.02, value + 0.03, 20, p=0.001)
        for one, other in [*((row, "base") for row in MEANS if row != "base"), *curve.pairs()]
        if one in MEANS and other in MEANS
    }
    labels = {row: row for row in [*MEANS, "mixed_all"]}
    return ReportData("x", 0, labels, mean=dict(MEANS), gains=gains, label_curves=[curve])


def test_each_mixture_is_compared_with_the_pairs_and_with_as_many_labels() -> None:
    assert set(CURVE.pairs()) == {
        *((row, "pairs") for row in ("mixed_1", "mixed_4", "mixed_all", "alone_1", "alone_4")),
        ("mixed_1", "alone_1"),
        ("mixed_4", "alone_4"),
    }


def test_a_row_is_a_point_and_a_line_of_the_table() -> None:
    html = label_curves(report(CURVE))
    assert "retrieved pairs &amp; 50 % labels" in html and MIXED not in html
    paths = dict(re.findall(r'class="line (a\d)" d="M([^"]+)"', html))
    assert paths.keys() == {"a1", "a2", "a5"}  # the colours of pairs, and of the first row of each line
    assert len({y for y in paths["a1"].split()[1::2]}) == 1  # level
    whiskers = [(float(a), float(b)) for a, b in re.findall(r'y1="([\d.]+)" y2="([\d.]+)" stroke', html)]
    assert sum(low > high for low, high in whiskers) == 5  # each row but the end of the level line
    rows = [
        re.findall(r"<t[hd][^>]*>(?:<span class=\"of\">.*?</span>)?(.*?)</t[hd]>", row) for row in html.split("<tr>")
    ]
    cells = [[re.sub("<[^>]+>", "", cell) for cell in row] for row in rows if row][1:]
    assert cells[0] == ["retrieved pairs alone", "0", "40.0", "–", "–"]
    assert cells[1] == [MIXED.replace("&", "&amp;"), "1", "42.0", "+2.0 [0.0, 5.0]", "+7.0 [5.0, 10.0]"]
    assert cells[2][1:] == ["4", "50.0", "+10.0 [8.0, 13.0]", "+5.0 [3.0, 8.0]"]
    assert cells[3] == [LABELS_ALONE, "1", "35.0", "−5.0 [−7.0, −2.0]", "–"]
    assert len(cells) == 5  # mixed_all has no score so far


def test_only_a_difference_outside_its_interval_has_a_colour() -> None:
    html = label_curves(report(CURVE))
    assert '<span class="same">+2.0 [0.0, 5.0]</span>' in html and '<span class="gain">+10.0 [8.0, 13.0]</span>' in html
    assert '<span class="loss">−5.0 [−7.0, −2.0]</span>' in html


def test_without_scores_or_labels_there_is_no_section() -> None:
    assert label_curves(ReportData("x", 0, {"base": "base"}, label_curves=[CURVE])) == ""
    assert label_curves(ReportData("x", 0, {"base": "base"}, mean={"base": 0.2})) == ""
