"""Writes the table of tasks x arms, as text for the terminal and as HTML for the page."""

from __future__ import annotations

from html import escape

from react_ray.report.data import MEAN, ReportData
from react_ray.report.style import mark


def points(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def gain_points(fraction: float) -> str:
    """Formats a difference with a sign (a true minus); a change that rounds to zero has none."""
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def render_table(data: ReportData) -> str:
    """Returns plain text: points, as means over seeds, with the standard deviation of the mean in the last row."""
    references = list(data.reference_lines)
    header = ["task", *data.arms.values(), *references]
    rows: list[list[str]] = []
    for task in [*data.tasks, MEAN]:
        cells = [data.spread(task, arm) for arm in data.arms]
        lines = [data.reference(label, task) for label in references]
        rows.append(
            [
                task,
                *(points(cell.mean) if cell else "-" for cell in cells),
                *(points(line) if line is not None else "-" for line in lines),
            ]
        )
    if data.num_seeds > 1:
        spreads = [data.spread(MEAN, arm) for arm in data.arms]
        rows.append(["± std", *(points(s.std) if s else "-" for s in spreads), *[""] * len(references)])
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row: list[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    rule = "-" * len(line([c.ljust(w) for c, w in zip(header, widths, strict=True)]))
    split = len(data.tasks)
    body = [line(row) for row in rows]
    return "\n".join([f"top-1, points, {_seeds(data)}", line(header), rule, *body[:split], rule, *body[split:]]) + "\n"


def html_table(data: ReportData) -> str:
    """Returns one row per task, the mean last; each row's best arm is bold, with the change against the base below."""
    references = list(data.reference_lines)
    has_counts = bool(data.num_images)
    bases = dict.fromkeys(data.base_of(arm) for arm in data.arms)
    against = data.arms[next(iter(bases))] if len(bases) == 1 else "the base of its own backbone"
    head = '<th scope="col">task</th>'
    head += '<th scope="col" class="n count">images</th>' if has_counts else ""
    head += "".join(
        f'<th scope="col" class="n">{mark(i)}{escape(label)}</th>' for i, label in enumerate(data.arms.values())
    )
    head += "".join(f'<th scope="col" class="n ref">{escape(label)}</th>' for label in references)
    body = "".join(_html_row(data, task, has_counts) for task in [*data.tasks, MEAN])
    return (
        f'<div class="scroll" tabindex="0"><table><caption>Top-1 accuracy in points, {_seeds(data)}; below each value, '
        f"the change against {escape(against)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


def _html_row(data: ReportData, task: str, has_counts: bool) -> str:
    spreads = {arm: data.spread(task, arm) for arm in data.arms}
    shown = {arm: points(spread.mean) for arm, spread in spreads.items() if spread}
    best = max((float(value) for value in shown.values()), default=-1.0)
    cells = ""
    if has_counts:
        count = sum(data.num_images.get(t, 0) for t in data.tasks) if task == MEAN else data.num_images.get(task)
        cells += f'<td class="n mute count">{count if count is not None else "–"}</td>'
    for arm, spread in spreads.items():
        if spread is None:
            cells += '<td class="n mute">–</td>'
            continue
        value = f"<b>{shown[arm]}</b>" if float(shown[arm]) == best else shown[arm]
        std = f'<span class="std"> ±{points(spread.std)}</span>' if spread.num_seeds > 1 else ""
        gain = data.gain_over_base(task, arm)
        cells += f'<td class="n">{value}{std}{_gain(gain.mean) if gain else ""}</td>'
    for label in data.reference_lines:
        reference = data.reference(label, task)
        cells += f'<td class="n ref">{points(reference) if reference is not None else "–"}</td>'
    kind = ' class="total"' if task == MEAN else ""
    name = "mean over tasks" if task == MEAN else escape(task)
    return f'<tr{kind}><th scope="row">{name}</th>{cells}</tr>'


def _gain(value: float) -> str:
    text = gain_points(value)
    kind = "up" if text.startswith("+") else "down" if text.startswith("−") else "same"
    return f'<small class="{kind}">{text}</small>'


def _seeds(data: ReportData) -> str:
    if data.num_seeds == 1:
        return "one seed"
    return f"mean ± standard deviation over {data.num_seeds} seeds"
