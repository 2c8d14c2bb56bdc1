"""The charts: round ticks, short labels, lines inside their axes."""

from __future__ import annotations

import math
import re

import pytest

from react_ray.report.charts import MAX_POINTS, Point, curve_chart, line_chart, nice_ticks, tick_label


@pytest.mark.parametrize(
    "low,high", [(0, 1), (1.9, 5.3), (0, 0.0021), (-3, 7), (14.285, 100), (5, 5), (0, 0), (-2e-7, 1e-7)]
)
def test_ticks_enclose_the_data_with_few_round_steps(low: float, high: float) -> None:
    ticks = nice_ticks(low, high, 4)
    assert 3 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-12 and ticks[-1] >= high - 1e-12
    step = ticks[1] - ticks[0]
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 2.5, 5)


def test_tick_labels_are_short() -> None:
    values = (0, 1e-16, 0.002, 2e-5, 2.5e-4, 0.30000000000000004, 1500, 20_000, -4)
    assert [tick_label(v) for v in values] == ["0", "0", "0.002", "2e−5", "2.5e−4", "0.3", "1500", "20k", "−4"]


def test_a_line_stays_inside_its_axes_and_is_thinned() -> None:
    line = [(float(step), math.sin(step / 50) * 3) for step in range(5000)]
    svg = line_chart("Loss", "nats", {0: line, 3: [(0.0, 1.0)]})
    path = re.search(r' d="M([^"]+)"', svg)
    assert path is not None
    numbers = [float(n) for n in path[1].replace("L", " ").split()]
    xs, ys = numbers[::2], numbers[1::2]
    assert len(xs) <= MAX_POINTS
    assert min(xs) >= 46 and max(xs) <= 350 and min(ys) >= 10 and max(ys) <= 174
    assert xs == sorted(xs)


def test_lines_without_a_finite_value_draw_no_chart() -> None:
    assert line_chart("Loss", "", {0: [(0.0, float("nan"))]}) == ""
    assert line_chart("Loss", "", {}) == ""


def test_a_curve_has_a_whisker_and_a_label_at_each_point_inside_its_axes() -> None:
    lines = {0: [Point(0, 20), Point(1, 30, (25, 35), "one <b>")], 1: [Point(2, 60, (50, 75))]}
    svg = curve_chart("Shots", "points", "images", lines, {0.0: "0", 1.0: "1", 2.0: "all"})
    assert svg.count("<use ") == 3 and svg.count('<path class="line ') == 1 and "one &lt;b&gt;" in svg
    whiskers = [(float(a), float(b)) for a, b in re.findall(r'y1="([\d.]+)" y2="([\d.]+)" stroke', svg)]
    assert whiskers[0][0] == whiskers[0][1] and whiskers[1][0] > whiskers[1][1]
    assert all(10 <= y <= 174 for whisker in whiskers for y in whisker)
    assert curve_chart("Shots", "points", "images", {0: []}) == ""


def test_curves_side_by_side_have_one_axis() -> None:
    low, high = (
        curve_chart("A", "points", "weight", {0: [Point(0, y), Point(1, y)]}, y_range=(10, 90)) for y in (10, 90)
    )
    labels = [re.findall(r'text-anchor="end">([^<]+)<', svg) for svg in (low, high)]
    assert labels[0] == labels[1] == ["0", "20", "40", "60", "80", "100"]
