"""Renders a comparison as one HTML file that loads nothing else: sentences, the table, and the WiSE-FT curve."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from react_ray.comparison.wise_ft import Curve
from react_ray.report import charts
from react_ray.report.name import name
from react_ray.report.script import policy
from react_ray.report.style import CSS, marks
from react_ray.report.table import Rows
from react_ray.report.verdict import Sentence

CLASS = ' class="n"'


def render(
    said: Sequence[Sentence], tables: Sequence[tuple[str, Rows]], notes: Sequence[str], curves: Sequence[Curve]
) -> str:
    """tables: of figures, then of confused classes, each with its caption, and its head first."""
    first, *more = [_table(rows, caption) for caption, rows in tables]
    verdict = "".join(
        f'<p class="verdict{" lead" if i == 0 else ""} {one.kind}">{escape(one.text)}</p>' for i, one in enumerate(said)
    )
    below = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy("")}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>react-ray compare</title><style>{CSS}</style></head><body>{marks()}<main>"
        f"<header><h1>Comparison</h1>{verdict}</header>{first}{below}{''.join(more)}{_curves(curves)}"
        "<footer>Written by react_ray. This file is complete: it loads nothing else.</footer></main></body></html>\n"
    )


def _table(rows: Rows, caption: str) -> str:
    head = "".join(f'<th scope="col"{CLASS if i else ""}>{name(title)}</th>' for i, title in enumerate(rows[0]))
    body = ""
    for title, *cells in rows[1:]:
        body += f'<tr><th scope="row">{name(title)}</th>'
        body += f"{''.join(f'<td{CLASS}>{escape(cell)}</td>' for cell in cells)}</tr>"
    told = escape(caption.replace("\n", "; "))
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{told}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _curves(curves: Sequence[Curve]) -> str:
    """Target against off-target accuracy, or against the weight where no set is off target."""
    if not curves:
        return ""
    off = all(point.off_target is not None for curve in curves for point in curve.points)
    lines = {
        index: [
            charts.Point(
                100 * point.off_target if off and point.off_target is not None else point.weight,
                100 * point.target,
                label=f"{point.weight:g}{' chosen' if point.weight == curve.chosen else ''}",
            )
            for point in curve.points
        ]
        for index, curve in enumerate(curves, 1)
    }
    x_name = "top-1 off target, points" if off else "weight"
    legend = charts.named_legend({index: curve.model for index, curve in enumerate(curves, 1)})
    note = (
        "Each point is a WiSE-FT weight between the base (0) and the model as it was trained (1). "
        + ("Up is better on the target, right is better off target. " if off else "")
        + "Points have no intervals here; the sentences above have."
    )
    chart = charts.curve_chart("Top-1 on the target", "points", x_name, lines)
    below = f'{legend}<div class="columns few">{chart}</div>'
    return f'<h2>WiSE-FT</h2><p class="note">{note}</p>{below}'
