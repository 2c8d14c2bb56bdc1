"""Draws charts as HTML and inline SVG: bars of flipped images, lines over training steps, curves of a few points.

Colours are the CSS classes `a0`, `a1`, ... (style.py), so that light and dark pages share one drawing. Every arm also
has its own mark and dash, for readers who cannot tell the colours apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from react_ray.report.data import ReportData
from react_ray.report.name import name
from react_ray.report.style import MARKS, colour, mark

MAX_POINTS = 120  # per line; if there are more steps, they are averaged in bins
WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 350, 10, 174


def legend(data: ReportData, arms: Sequence[str]) -> str:
    return named_legend({data.index(arm): data.labels[arm] for arm in data.labels if arm in arms})


def named_legend(names: dict[int, str]) -> str:
    """names: number of a colour and mark -> what it stands for."""
    items = "".join(f"<li>{mark(index)}{name(one)}</li>" for index, one in names.items())
    return f'<ul class="legend">{items}</ul>'


def flip_bars(flipped: dict[str, tuple[int, int]], arm: int, base: int) -> str:
    """Draws the images that only the arm (right) and only its base (left) classifies correctly, in their colours.

    arm, base: the numbers of their colours.
    """
    widest = max([1, *(max(counts) for counts in flipped.values())])
    bar = '<i class="bar {}" style="width:{:.1f}%"></i>'
    rows = "".join(
        f'<div class="row"><span>{name(task)}</span><div class="both">'
        f'<div class="half left"><em>{lost or ""}</em>{bar.format(colour(base), 82 * lost / widest)}</div>'
        f'<div class="half">{bar.format(colour(arm), 82 * gained / widest)}<em>{gained or ""}</em></div>'
        f"</div></div>"
        for task, (gained, lost) in flipped.items()
    )
    return f'<div class="dots bars">{rows}</div>'


def line_chart(title: str, unit: str, lines: dict[int, list[tuple[float, float]]]) -> str:
    """Draws one small chart over steps. lines: index of an arm -> its (step, value) points."""
    drawn = {index: _bins([p for p in line if math.isfinite(p[1])]) for index, line in lines.items()}
    values = [value for line in drawn.values() for _, value in line]
    steps = [step for line in drawn.values() for step, _ in line]
    if not values:
        return ""
    x_ticks, y_ticks = nice_ticks(0, max(steps), 4), nice_ticks(min(values), max(values), 4)
    x_high = max(max(steps), 1)
    y_low, y_high = min(y_ticks[0], min(values)), max(y_ticks[-1], max(values))

    def x(step: float) -> float:
        return LEFT + (RIGHT - LEFT) * step / x_high

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - y_low) / (y_high - y_low)

    grid = _grid({x(t): tick_label(t) for t in x_ticks if t <= x_high}, {y(t): tick_label(t) for t in y_ticks}, "step")
    paths = "".join(
        f'<path class="line {colour(index)}" d="M{" ".join(f"{x(s):.1f} {y(v):.1f}" for s, v in line)}"/>'
        f"{_mark_at(index, x(line[-1][0]), y(line[-1][1]))}"
        for index, line in drawn.items()
        if line
    )
    return _figure(title, unit, "steps", grid + paths)


class Point(NamedTuple):
    x: float
    y: float
    ends: tuple[float, float] | None = None  # the y of both ends of its whisker, which need not be symmetric
    label: str = ""

    @property
    def low(self) -> float:
        return self.ends[0] if self.ends else self.y

    @property
    def high(self) -> float:
        return self.ends[1] if self.ends else self.y


def curve_chart(
    title: str,
    unit: str,
    x_name: str,
    lines: dict[int, list[Point]],
    x_labels: dict[float, str] | None = None,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Draws curves of a few points each, with a mark, a whisker and a label at each point; "" without points.

    lines: index of an arm -> its points, in the order in which they are joined. x_labels: what stands below an x, for
    numbers that are no scale, such as shots; None = round numbers. y_range: so that charts side by side have one axis.
    """
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    xs = [point.x for point in points]
    x_ticks = nice_ticks(min(xs), max(xs), 4) if x_labels is None else sorted(x_labels)
    y_ticks = nice_ticks(*(y_range or (min(p.low for p in points), max(p.high for p in points))), 4)

    def x(value: float) -> float:
        return LEFT + 8 + (RIGHT - LEFT - 24) * (value - x_ticks[0]) / ((x_ticks[-1] - x_ticks[0]) or 1)

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])

    drawn = _grid(
        {x(t): tick_label(t) if x_labels is None else x_labels[t] for t in x_ticks},
        {y(t): tick_label(t) for t in y_ticks},
        x_name,
    )
    for index, line in lines.items():
        if len(line) > 1:
            path = " ".join(f"{x(point.x):.1f} {y(point.y):.1f}" for point in line)
            drawn += f'<path class="line {colour(index)}" d="M{path}"/>'
        for point in line:
            ends = f'y1="{y(point.low):.1f}" y2="{y(point.high):.1f}"'
            drawn += f'<g class="{colour(index)}"><line x1="{x(point.x):.1f}" x2="{x(point.x):.1f}" {ends} '
            drawn += f'stroke="currentColor"/></g>{_mark_at(index, x(point.x), y(point.y))}'
            drawn += f'<text x="{x(point.x) + 8:.1f}" y="{y(point.y) - 5:.1f}">{escape(point.label)}</text>'
    return _figure(title, unit, x_name, drawn)


def _grid(x_labels: dict[float, str], y_labels: dict[float, str], x_name: str) -> str:
    """Axes. x_labels, y_labels: place in the drawing -> what stands there."""
    grid = "".join(
        f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>'
        for y, label in y_labels.items()
    )
    grid += f'<line x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}" class="base"/>'
    grid += "".join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{BOTTOM}" y2="{BOTTOM + 4}" class="base"/>'
        f'<text x="{x:.1f}" y="{BOTTOM + 17}" text-anchor="middle">{escape(label)}</text>'
        for x, label in x_labels.items()
    )
    return f'{grid}<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_name)}</text>'


def _mark_at(index: int, x: float, y: float) -> str:
    use = f'<use href="#m{index % len(MARKS)}"/>'
    return f'<svg class="{colour(index)}" x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12">{use}</svg>'


def _figure(title: str, unit: str, over: str, drawn: str) -> str:
    return (
        f'<figure class="chart"><figcaption>{escape(title)} <span>{escape(unit)}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over {escape(over)}">{drawn}</svg>'
        "</figure>"
    )


def nice_ticks(low: float, high: float, num: int) -> list[float]:
    """Returns about `num` round numbers that enclose low and high."""
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    raw = (high - low) / num
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def tick_label(value: float) -> str:
    """Formats a number briefly (0.002, 2e-5, 1500, 20k) and without floating-point noise."""
    if abs(value) < 1e-12:
        return "0"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "−")
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}".replace("-", "−")


def _bins(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Averages equal runs of steps, so that a long training draws as fast as a short one."""
    size = math.ceil(len(line) / MAX_POINTS)
    if size <= 1:
        return line
    runs = [line[i : i + size] for i in range(0, len(line), size)]
    return [(run[-1][0], sum(value for _, value in run) / len(run)) for run in runs]
