"""The page of a comparison loads nothing, escapes all names, and shows what was kept against what was gained."""

from __future__ import annotations

import re

from react_ray.comparison.page import render
from react_ray.comparison.wise_ft import Curve, Point
from react_ray.report.verdict import Sentence
from tests.support.html_page import Page

CURVE = Curve("run <b>", [Point(0, 0.5, 0.6, 0.5), Point(0.5, 0.7, 0.55, 0.6), Point(1, 0.8, 0.3, 0.5)], 0.5)


def page(*curves: Curve) -> str:
    said = [Sentence("loss", "run <b> forgot"), Sentence("gain", "run is above")]
    return render(said, [("of <birds>", [["", "birds top-1"], ["run <b>", "50.0"]])], ["a note"], curves)


def test_the_page_is_whole_and_loads_nothing() -> None:
    found = Page(page(CURVE))
    assert found.loads == [] and "run <b> forgot" in found.text and "of <birds>" in found.text
    assert page().count("<svg") == 1 and "WiSE-FT" not in page()  # the marks alone


def test_the_curve_is_of_target_against_off_target_and_names_the_choice() -> None:
    html = page(CURVE)
    assert "top-1 off target, points" in html and ">0.5 chosen</text>" in html and ">1</text>" in html
    path = re.search(r'class="line a1" d="M([^"]+)"', html)
    assert path is not None
    xs, ys = [float(n) for n in path[1].split()[::2]], [float(n) for n in path[1].split()[1::2]]
    assert xs == sorted(xs, reverse=True) and ys == sorted(ys, reverse=True)  # less off target, more on the target


def test_without_sets_off_target_the_curve_is_over_the_weight() -> None:
    html = page(Curve("run", [Point(0, 0.5, None, None), Point(1, 0.8, None, None)], None))
    assert ">weight</text>" in html and "chosen" not in html
