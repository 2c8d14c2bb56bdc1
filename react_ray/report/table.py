"""Writes the table of tasks x arms, as text for the terminal and as HTML for the page."""

from __future__ import annotations

from html import escape

from react_ray.report.data import MEAN, ReportData
from react_ray.report.intervals import Gain, method
from react_ray.report.numbers import gain_points, interval, points
from react_ray.report.style import mark


def render_table(data: ReportData) -> str:
    """Returns plain text: points, as means over seeds; below the mean, its deviation over seeds and the gains."""
    references, arms = list(data.reference_lines), data.scored_arms()
    header = ["task", *(data.arms[arm] for arm in arms), *references]
    rows: list[list[str]] = []
    for task in [*data.tasks, MEAN]:
        cells = [data.spread(task, arm) for arm in arms]
        lines = [data.reference(label, task) for label in references]
        rows.append(
            [
                task,
                *(points(cell.mean) if cell else "-" for cell in cells),
                *(points(line) if line is not None else "-" for line in lines),
            ]
        )
    if data.num_seeds > 1:
        spreads = [data.spread(MEAN, arm) for arm in arms]
        rows.append(["± std", *(points(s.std) if s else "-" for s in spreads), *[""] * len(references)])
    gains = [data.gain(MEAN, arm) for arm in arms]
    if any(gains):
        shown = [f"{gain_points(gain.value)} {interval(gain)}" if gain else "" for gain in gains]
        rows.append(["gain", *shown, *[""] * len(references)])
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row: list[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    split = len(data.tasks)
    body = [line(row) for row in rows]
    notes = [method(data.num_seeds)] if any(gains) else []
    return (
        "\n".join([f"top-1, points, {_seeds(data)}", line(header), rule, *body[:split], rule, *body[split:], *notes])
        + "\n"
    )


def html_table(data: ReportData) -> str:
    """Returns one row per task, the mean last; each row's best arms are bold, with the change against the base below.

    A change has a colour only if its interval excludes zero.
    """
    arms, references = data.scored_arms(), list(data.reference_lines)
    has_counts = bool(data.num_images)
    bases = dict.fromkeys(data.base_of(arm) for arm in arms)
    against = data.arms[next(iter(bases))] if len(bases) == 1 else "the base of its own backbone"
    head = '<th scope="col">task</th>'
    head += '<th scope="col" class="n">images</th>' if has_counts else ""
    head += "".join(f'<th scope="col" class="n">{mark(data.index(arm))}{escape(data.arms[arm])}</th>' for arm in arms)
    head += "".join(f'<th scope="col" class="n ref">{escape(label)}</th>' for label in references)
    body = "".join(_html_row(data, arms, task, has_counts) for task in [*data.tasks, MEAN])
    return (
        f'<div class="scroll" tabindex="0"><table class="cells"><caption>Top-1 accuracy in points, {_seeds(data)}; '
        f"below each value, the change against {escape(against)}. Green and red are changes whose 95 % interval "
        f"excludes zero; grey ones could be noise.</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


def column(name: str, sign: str = "") -> str:
    """Returns the name of a cell's column, which is shown on narrow pages only: there, cells stand below each other."""
    return f'<span class="of">{sign}{escape(name)}</span>'


def _html_row(data: ReportData, arms: list[str], task: str, has_counts: bool) -> str:
    spreads = {arm: data.spread(task, arm) for arm in arms}
    shown = {arm: points(spread.mean) for arm, spread in spreads.items() if spread}
    best = max((float(value) for value in shown.values()), default=-1.0)
    cells = ""
    if has_counts:
        count = sum(data.num_images.get(t, 0) for t in data.tasks) if task == MEAN else data.num_images.get(task)
        cells += f'<td class="n mute">{column("images")}{count if count is not None else "–"}</td>'
    for arm, spread in spreads.items():
        of = column(data.arms[arm], mark(data.index(arm)))
        if spread is None:
            cells += f'<td class="n mute">{of}–</td>'
            continue
        value = f"<b>{shown[arm]}</b>" if float(shown[arm]) == best else shown[arm]
        std = f'<span class="std"> ±{points(spread.std)}</span>' if spread.num_seeds > 1 else ""
        gain = data.gain(task, arm)
        cells += f'<td class="n">{of}<span>{value}{std}{_gain(gain, task == MEAN) if gain else ""}</span></td>'
    for label in data.reference_lines:
        reference = data.reference(label, task)
        cell = points(reference) if reference is not None else "–"
        cells += f'<td class="n ref">{column(label)}{cell}</td>'
    kind = ' class="total"' if task == MEAN else ""
    name = "mean over tasks" if task == MEAN else escape(task)
    return f'<tr{kind}><th scope="row">{name}</th>{cells}</tr>'


def _gain(gain: Gain, with_interval: bool) -> str:
    """A task's interval is a title, so that the table stays small."""
    shown = f"{gain_points(gain.value)} {interval(gain)}" if with_interval else gain_points(gain.value)
    why = "" if gain.told_apart else ", not told apart from zero"
    return f'<small class="{gain.direction}" title="95 % interval {interval(gain)}{why}">{shown}</small>'


def _seeds(data: ReportData) -> str:
    if data.num_seeds == 1:
        return "one seed"
    return f"mean ± standard deviation over {data.num_seeds} seeds"
