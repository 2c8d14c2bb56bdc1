"""Writes the tables of the page: the mean of every row with a bar, and rows x tasks. On a phone, cells are stacked."""

from __future__ import annotations

from html import escape

from react_ray.report.data import MEAN, Cost, ReportData, Spread
from react_ray.report.intervals import Gain
from react_ray.report.name import name
from react_ray.report.numbers import gain_interval, points, probability
from react_ray.report.table import NONE, SIZE, TRAINED, against, mean_of, size_of, trained_in


def html_table(data: ReportData) -> str:
    """Returns the table of means, with a bar for each row, coloured only if its interval excludes the base."""
    rows = data.ranked()
    ends = [spread.mean for row in rows if (spread := data.spread(MEAN, row))]
    ends += [base.mean + g.high for row in rows if (g := data.gain(MEAN, row)) and (base := _base(data, row))]
    top = max([*ends, 0.01])
    has = {TRAINED: any(map(trained_in, data.costs.values())), SIZE: any(map(size_of, data.costs.values()))}
    head = '<th scope="col">method</th><th scope="col" class="n">top-1</th><th scope="col" class="bars"></th>'
    head += f'<th scope="col" class="n">against {escape(against(data))}</th><th scope="col" class="n">p</th>'
    head += "".join(f'<th scope="col" class="n">{title}</th>' for title, filled in has.items() if filled)
    body = ""
    for row in rows:
        cost, gain = data.costs.get(row, Cost()), data.gain(MEAN, row)
        kind = gain.direction if gain else "base"
        cells = f'<td class="n">{column("top-1")}<b>{mean_of(data, row)}</b></td>'
        cells += f'<td class="bars">{_bar(data, row, top)}</td>'
        cells += f'<td class="n">{column("against " + against(data))}'
        cells += f'<span class="{kind}">{escape(gain_interval(gain)) if gain else NONE}</span></td>'
        exact = f' title="McNemar: {escape(probability(gain.mcnemar))}"' if gain and gain.mcnemar is not None else ""
        cells += f'<td class="n mute"{exact}>{column("p")}{escape(probability(gain.p)) if gain else NONE}</td>'
        for title, said in ((TRAINED, trained_in(cost)), (SIZE, size_of(cost))):
            cells += f'<td class="n mute">{column(title)}{said or NONE}</td>' if has[title] else ""
        cells = f'<th scope="row">{escape(data.labels[row])}{_role(data, row)}</th>{cells}'
        body += f'<tr class="{"ref" if row in data.references else ""}">{cells}</tr>'
    return _scrolled(
        f"Top-1 accuracy in points, {'one seed' if data.num_seeds == 1 else f'mean over {data.num_seeds} seeds'}. A "
        "line ends each bar where the 95 % interval of its difference does; green and red are differences whose "
        "interval excludes zero, and grey ones could be noise.",
        head,
        body,
    )


def html_tasks(data: ReportData) -> str:
    """Returns rows x tasks; a change has a colour only if it is told apart from zero after Holm's correction."""
    if len(data.tasks) < 2:
        return ""
    head = '<th scope="col">method</th>'
    for task in data.tasks:
        count = f"<small>{data.num_images[task]:,} images</small>" if task in data.num_images else ""
        head += f'<th scope="col" class="n">{name(task)}{count}</th>'
    body = ""
    for row in data.ranked():
        cells = "".join(
            f'<td class="n">{column(task)}{_task_cell(data, task, row, data.gain(task, row))}</td>'
            for task in data.tasks
        )
        kind = "ref" if row in data.references else ""
        body += f'<tr class="{kind}"><th scope="row">{escape(data.labels[row])}</th>{cells}</tr>'
    return _scrolled(
        f"Top-1 accuracy by task. Green and red differ from {escape(against(data))} with p &lt; 0.05 after Holm's "
        "correction over the tasks; point at a value for its interval.",
        head,
        body,
        "cells two",
    )


def _task_cell(data: ReportData, task: str, row: str, gain: Gain | None) -> str:
    spread = data.spread(task, row)
    if spread is None:
        return NONE
    if gain is None:
        return f"<span>{points(spread.mean)}</span>"
    kind = gain.direction if gain.told_apart else "plain"
    why = f"{gain_interval(gain)} against {data.labels[data.base_of(row)]}, p {probability(gain.p)}"
    return f'<span class="{kind}" title="{escape(why)}">{points(spread.mean)}</span>'


def _bar(data: ReportData, row: str, top: float) -> str:
    """A bar of the mean, a tick at the base, and the interval of the difference from it."""
    spread, base, gain = data.spread(MEAN, row), _base(data, row), data.gain(MEAN, row)
    assert spread
    kind = "base" if gain is None else gain.direction
    inside = f'<i class="fill {kind}" style="width:{100 * spread.mean / top:.2f}%"></i>'
    if base and gain:
        low, high = (max(0.0, base.mean + bound) for bound in (gain.low, gain.high))
        inside += f'<i class="whisker" style="left:{100 * low / top:.2f}%;width:{100 * (high - low) / top:.2f}%"></i>'
        inside += f'<i class="tick" style="left:{100 * base.mean / top:.2f}%"></i>'
    return f'<span class="track" aria-hidden="true">{inside}</span>'


def _base(data: ReportData, row: str) -> Spread | None:
    return data.spread(MEAN, data.base_of(row))


def _role(data: ReportData, row: str) -> str:
    """Says below the name of a row what it is, where it is not a customised CLIP."""
    roles = {
        "a base" if against(data) == "its base" else "the start of all arms": data.is_base(row),
        "a control": row in data.controls,
        "a head of fixed classes": row in data.fixed,
        "no model; it is given labels": row in data.labelled,
        "no model; a picture has the class that it was retrieved for": row in data.references,
    }
    return next((f"<small>{said}</small>" for said, true in roles.items() if true), "")


def column(title: str) -> str:
    """Returns the name of a cell's column, which is shown on narrow pages only: there, cells stand below each other."""
    return f'<span class="of">{escape(title)}</span>'


def _scrolled(caption: str, head: str, body: str, kind: str = "cells") -> str:
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}"><caption>{caption}</caption><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )
