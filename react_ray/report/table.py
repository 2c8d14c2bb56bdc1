"""Writes the table of a run, the best row first: as text for the terminal, and as Markdown.

A row is a base, an arm, or a reference. One table has what each row reaches in the mean and what it costs, a second one
its accuracy by task, so that both stay narrow with any number of rows. html_table.py writes the same for the page.
"""

from __future__ import annotations

from react_ray.metadata import printable, shortened
from react_ray.report.data import MEAN, Cost, ReportData
from react_ray.report.intervals import method
from react_ray.report.numbers import duration, gain_interval, points, probability, size

WIDTH = 100  # characters of a terminal; tasks that do not fit go into a further table
CONFUSED = 5  # pairs of classes in the terminal
LONGEST = 100  # characters of a cell
GAP = "  "
NONE = "–"
TRAINED, SIZE = "trained in", "size"
Rows = list[list[str]]


def render_table(data: ReportData) -> str:
    """Returns plain text: points, as means over seeds; a star marks a change of a task that is no noise."""
    out = f"{_title(data)}\n{aligned(_means(data), num_last=_num_labelled(data))}"
    for table in _by_task(data):
        out += f"\nby task\n{aligned(table, num_last=_num_labelled(data))}"
    if data.task_metrics:
        out += f"\nby the metric that counts for each task\n{aligned(_own_metrics(data), num_last=_num_labelled(data))}"
    return "\n".join([out, *_notes(data)]) + "\n" if data.gains else out


def markdown_table(data: ReportData) -> str:
    """Returns the same as `render_table` in Markdown."""
    tables = [_means(data), *_by_task(data, width=10**6), *([_own_metrics(data)] if data.task_metrics else [])]
    text = "\n".join(_markdown(table) for table in tables)
    return f"{_title(data)}:\n\n{text}" + "".join(f"\n{line}\n" for line in _notes(data))


def confused(data: ReportData) -> str:
    """The pairs of classes that the best arm confuses most often, as text; "" if each mistake occurs once."""
    most = [one for one in data.confusions if one.label and one.arm_count > 1][:CONFUSED]
    if not most or data.best_arm is None:
        return ""
    shown = [taken_for(one.label, one.predicted, one.task if len(data.tasks) > 1 else "") for one in most]
    names = data.labels[data.best_arm], data.labels[data.base_of(data.best_arm)]
    rows = [[text, str(one.arm_count), str(one.base_count)] for text, one in zip(shown, most, strict=True)]
    return f"most confused classes on {data.dataset}, images\n{aligned([['', *names], *rows])}"


def taken_for(label: str, predicted: str, task: str = "") -> str:
    return " taken for ".join(shortened(name, 40) for name in (label, predicted)) + (f" ({task})" if task else "")


def _title(data: ReportData) -> str:
    over = [f"{len(data.tasks)} tasks"] * (len(data.tasks) > 1) + [f"{data.num_seeds} seeds"] * (data.num_seeds > 1)
    means = f", means over {' and '.join(over)}" if over else ""
    seeds = ", ± standard deviation over seeds" if data.num_seeds > 1 else ", one seed"
    return f"top-1 accuracy on {data.dataset}, points{means}{seeds}"


def _means(data: ReportData) -> Rows:
    """One row each, below the names of the columns; columns that nobody fills are left out."""
    rows = data.ranked()
    columns = {"top-1": [mean_of(data, row) for row in rows]}
    columns[f"against {against(data)}"] = [
        gain_interval(gain) if (gain := data.gain(MEAN, row)) else "" for row in rows
    ]
    columns["p"] = [probability(gain.p) if (gain := data.gain(MEAN, row)) else "" for row in rows]
    columns[TRAINED] = [trained_in(data.costs.get(row, Cost())) for row in rows]
    columns[SIZE] = [size_of(data.costs.get(row, Cost())) for row in rows]
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    return [["", *filled], *([data.labels[row], *cells] for row, *cells in zip(rows, *filled.values(), strict=True))]


def _by_task(data: ReportData, width: int = WIDTH) -> list[Rows]:
    """Tables of rows x tasks, each at most `width` characters wide; none for a single task."""
    if len(data.tasks) < 2:
        return []
    rows = data.ranked()
    tables: list[Rows] = []
    room = 0
    for task in data.tasks:
        cells = [_of_task(data, task, row) for row in rows]
        needed = len(GAP) + max(map(len, [task, *cells]))
        if needed > room:
            tables.append([[""], *([data.labels[row]] for row in rows)])
            room = width - max(len(data.labels[row]) for row in rows)
        room -= needed
        for line, cell in zip(tables[-1], [task, *cells], strict=True):
            line.append(cell)
    return tables


def _own_metrics(data: ReportData) -> Rows:
    """Of tasks for which another metric than top-1 counts, and the mean over all tasks."""
    table = [["", *data.task_metrics]]
    for row in data.ranked():
        table.append([data.labels[row], *(_by_metric(data, column, row) for column in data.task_metrics)])
    return table


def _by_metric(data: ReportData, column: str, row: str) -> str:
    value, gain = data.task_metrics[column].get(row), data.metric_gains.get((column, row))
    if value is None:
        return f"{NONE} "
    return points(value) + ("*" if gain and gain.told_apart else " ")


def mean_of(data: ReportData, row: str) -> str:
    spread = data.spread(MEAN, row)
    assert spread, "a row of the table has a score"
    return points(spread.mean) + (f" ± {points(spread.std)}" if data.num_seeds > 1 else "")


def _of_task(data: ReportData, task: str, row: str) -> str:
    spread, gain = data.spread(task, row), data.gain(task, row)
    if spread is None:
        return f"{NONE} "
    return points(spread.mean) + ("*" if gain and gain.told_apart else " ")


def _notes(data: ReportData) -> list[str]:
    lines = [f"Brackets: {method(data.num_seeds)}."] if data.gains else []
    if data.gains and (len(data.tasks) > 1 or data.metric_gains):
        lines.append(f"*: differs from {against(data)}, p < 0.05 after Holm's correction over the tasks.")
    return lines


def against(data: ReportData) -> str:
    """Names what the rows are compared with."""
    bases = dict.fromkeys(data.base_of(row) for row in data.scored())
    return data.labels[next(iter(bases))] if len(bases) == 1 else "its base"


def trained_in(cost: Cost) -> str:
    return "" if cost.seconds is None else duration(cost.seconds)


def size_of(cost: Cost) -> str:
    return "" if cost.bytes is None else size(cost.bytes)


def _num_labelled(data: ReportData) -> int:
    return sum(row in data.labelled for row in data.ranked())


def aligned(table: Rows, num_last: int = 0) -> str:
    """Texts left, numbers right. Names of classes come from folders and files: what a terminal obeys is left out of
    them, and so is what is long. num_last: rows that stand below a rule of their own."""
    table = [[shortened(printable(cell), LONGEST) for cell in row] for row in table]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append(GAP.join(cells).rstrip())
    rule = "-" * (sum(widths) + len(GAP) * (len(widths) - 1))
    lines.insert(1, rule)
    if 0 < num_last < len(table) - 1:
        lines.insert(len(lines) - num_last, rule)
    return "\n".join(lines) + "\n"


def _markdown(table: Rows) -> str:
    head, *body = [[cell.strip().replace("|", "\\|").replace("*", "\\*") for cell in row] for row in table]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule, *body])
