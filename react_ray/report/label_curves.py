"""Renders the arms that differ in the labelled images that trained them: retrieved pairs, labels, and both.

A curve for each of what trained, over the labelled images of each class, and a table of the differences.
"""

from __future__ import annotations

from html import escape

from react_ray.evals.score import ALL_SHOTS
from react_ray.report.charts import Point, curve_chart, named_legend
from react_ray.report.data import LABELS_ALONE, MEAN, LabelCurve, ReportData
from react_ray.report.html_table import column
from react_ray.report.numbers import gain_interval, points
from react_ray.report.table import NONE

PAIRS_ALONE = "retrieved pairs alone"
HEAD = ("what trained", "labelled images of each class", "top-1", "against the pairs alone", "against labels alone")


def label_curves(data: ReportData) -> str:
    """Returns the section; "" without scores of such arms."""
    blocks = ""
    for curve in data.label_curves:
        scored = _scored(data, curve)
        if any(scored.lines.values()):
            blocks += f"<h3>{escape(curve.title)}</h3>{_chart(data, scored)}{_table(data, scored)}"
    if not blocks:
        return ""
    note = (
        f"Top-1 accuracy on {data.dataset} of arms that trained on labelled images, over how many of each class they "
        "had at most. Whiskers are the 95 % interval of the difference from the base, as in the table above. The "
        "intervals in the table below tell whether two curves differ."
    )
    return f'<h2>Labels in training</h2><p class="note">{escape(note)}</p>{blocks}'


def _scored(data: ReportData, curve: LabelCurve) -> LabelCurve:
    """Without rows that have no score so far."""
    has = set(data.scored())
    lines = {name: {shots: row for shots, row in rows.items() if row in has} for name, rows in curve.lines.items()}
    return curve._replace(without=curve.without if curve.without in has else "", lines=lines)


def _numbers(curve: LabelCurve) -> list[int]:
    return sorted({shots for rows in curve.lines.values() for shots in rows}, key=lambda one: (one == ALL_SHOTS, one))


def _chart(data: ReportData, curve: LabelCurve) -> str:
    """The pairs alone are a level line, which no label changes."""
    numbers = _numbers(curve)
    place = {shots: at for at, shots in enumerate(numbers, 1)}
    lines, names = {}, {}
    if curve.without:
        index, first = data.index(curve.without), _point(data, curve.without, 0)
        lines[index], names[index] = [first, Point(len(numbers), first.y)], PAIRS_ALONE
    for name, rows in curve.lines.items():
        if rows:
            index = data.index(next(iter(rows.values())))
            lines[index] = [_point(data, rows[shots], place[shots]) for shots in numbers if shots in rows]
            names[index] = name
    labels = {0.0: "0"} | {float(at): _name(shots) for shots, at in place.items()}
    chart = curve_chart(curve.title, "points", "labelled images of each class", lines, labels)
    return f'{named_legend(names)}<div class="columns few">{chart}</div>'


def _point(data: ReportData, row: str, at: int) -> Point:
    spread, gain = data.spread(MEAN, row), data.gain(MEAN, row)
    assert spread, "a row that is drawn has a score"
    mean = spread.mean
    ends = (100 * (mean - gain.value + gain.low), 100 * (mean - gain.value + gain.high)) if gain else None
    return Point(at, 100 * mean, ends)


def _table(data: ReportData, curve: LabelCurve) -> str:
    alone = curve.lines.get(LABELS_ALONE, {})
    rows = [(PAIRS_ALONE, 0, curve.without, "")] if curve.without else []
    for line, of in curve.lines.items():
        for shots in (number for number in _numbers(curve) if number in of):
            rows.append((line, shots, of[shots], "" if line == LABELS_ALONE else alone.get(shots, "")))
    body = ""
    for line, shots, row, labels in rows:
        spread = data.spread(MEAN, row)
        assert spread, "a row that is listed has a score"
        cells = [_name(shots), points(spread.mean), _over(data, row, curve.without), _over(data, row, labels)]
        body += f'<tr><th scope="row">{escape(line)}</th>'
        body += "".join(f'<td class="n">{column(n)}{cell}</td>' for n, cell in zip(HEAD[1:], cells, strict=True))
        body += "</tr>"
    head = f'<th scope="col">{HEAD[0]}</th>' + "".join(f'<th scope="col" class="n">{name}</th>' for name in HEAD[1:])
    return (
        f'<div class="scroll" tabindex="0"><table class="cells"><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _over(data: ReportData, row: str, other: str) -> str:
    gain = data.gain(MEAN, row, other) if other and other != row else None
    return f'<span class="{gain.direction}">{escape(gain_interval(gain))}</span>' if gain else NONE


def _name(shots: int) -> str:
    return "all" if shots == ALL_SHOTS else str(shots)
