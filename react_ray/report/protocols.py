"""Renders the scores of protocols other than zero-shot classification: curves over shots, a table for each protocol.

Whatever a protocol measures is a Score, so that one that is added later is shown without a line here. A difference that
has an interval over images stands behind its figure, and is coloured only if it is told apart from zero.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from react_ray.evals.score import ALL_SHOTS, ZERO_SHOT, Score, place_of
from react_ray.evals.zeroshot import MEAN, TASK_METRIC
from react_ray.report import intervals
from react_ray.report.charts import Point, curve_chart, legend
from react_ray.report.data import ReportData
from react_ray.report.html_table import column
from react_ray.report.intervals import Gain
from react_ray.report.numbers import gain_interval
from react_ray.report.score_table import cell

ALL = "all"
Method = tuple[str, str]  # protocol and setting


def protocols(data: ReportData) -> str:
    """Returns the section of few and full shot, and that of all other protocols; "" for what was not scored."""
    return _shots(data) + _others(data)


def _shots(data: ReportData) -> str:
    learned = [one for one in data.scores if one.shots and (one.task, one.metric) == (MEAN, TASK_METRIC)]
    if not learned:
        return ""
    blocks = ""
    for dataset in dict.fromkeys(one.dataset for one in learned):
        some = [one for one in learned if one.dataset == dataset]
        shots = sorted({one.shots for one in some}, key=lambda number: (number == ALL_SHOTS, number))
        start = _zero_shot(data, dataset)
        charts = _charts(data, some, shots, start)
        models = list(dict.fromkeys(one.model for one in some))
        blocks += f"<h3>{escape(dataset)}</h3>{legend(data, models)}"
        blocks += f'<div class="columns">{charts}</div>{_shot_table(data, some, shots, start)}'
    note = (
        "Classifiers that are learned from a few labelled images of each class, on the vectors of each model: means "
        "over draws of these images, with one standard deviation to both sides. The curves begin at the prompts of the "
        "classes, without labels."
    )
    return f'<h2>Few labels</h2><p class="note">{note}</p>{blocks}'


def _charts(data: ReportData, some: Sequence[Score], shots: list[int], start: dict[str, float]) -> str:
    """One chart for each method, all with one axis; a line for each model."""
    labels = {0.0: "0"} | {float(place): _name(number) for place, number in enumerate(shots, 1)}
    lines: dict[Method, dict[int, list[Point]]] = {}
    for method in dict.fromkeys((one.protocol, one.setting) for one in some):
        for model in dict.fromkeys(one.model for one in some):
            line = [Point(0, 100 * start[model])] if model in start else []
            for place, number in enumerate(shots, 1):
                if values := _values(some, method, model, number):
                    mean, deviation = statistics.fmean(values), _deviation(values)
                    line.append(Point(place, 100 * mean, (100 * (mean - deviation), 100 * (mean + deviation))))
            lines.setdefault(method, {})[data.index(model)] = line
    every = [point for of in lines.values() for line in of.values() for point in line]
    y_range = min(point.low for point in every), max(point.high for point in every)
    return "".join(
        curve_chart(_title(method), "points", "labelled images of each class", of, labels, y_range)
        for method, of in lines.items()
    )


def _shot_table(data: ReportData, some: Sequence[Score], shots: list[int], start: dict[str, float]) -> str:
    head = ["", "method", "0 shots", *(f"{_name(number)} shots" for number in shots)]
    rows = []
    for model in dict.fromkeys(one.model for one in some):
        for method in dict.fromkeys((one.protocol, one.setting) for one in some):
            cells = [cell(_values(some, method, model, number)) for number in shots]
            rows.append([_label(data, model), _title(method), cell([start[model]] if model in start else []), *cells])
    return _table("", head, rows)


def _others(data: ReportData) -> str:
    """A table for each protocol and set, with a row for each model and a column for each figure."""
    others = [one for one in data.scores if not one.shots and one.protocol != ZERO_SHOT]
    html = ""
    for protocol, dataset in dict.fromkeys((one.protocol, one.dataset) for one in others):
        some = [one for one in others if (one.protocol, one.dataset) == (protocol, dataset)]
        columns = list(dict.fromkeys(_column(one) for one in some))
        models = list(dict.fromkeys(one.model for one in some))
        rows = [
            [
                _label(data, model),
                *(cell([one.value for one in some if (one.model, _column(one)) == (model, name)]) for name in columns),
            ]
            for model in models
        ]
        gains = {
            (models.index(one.model), columns.index(_column(one)) + 1): data.score_gains[place_of(one)]
            for one in some
            if place_of(one) in data.score_gains
        }
        num = max(one.num for one in some)
        told = f"{protocol} on {dataset}, points over {num:,} images, texts or boxes"
        html += _table(told, ["", *columns], rows, gains)
    if html and data.score_gains:
        how = f"Brackets are the {intervals.method(1, resamples=0)}, of the difference to the base."
        html = f'<p class="note">{how}</p>{html}'
    return f"<h2>Other protocols</h2>{html}" if html else ""


def _zero_shot(data: ReportData, dataset: str) -> dict[str, float]:
    """Model -> what its prompts reach."""
    return {
        one.model: one.value
        for one in data.scores
        if (one.protocol, one.dataset, one.task, one.metric) == (ZERO_SHOT, dataset, MEAN, TASK_METRIC)
    }


def _values(some: Iterable[Score], method: Method, model: str, shots: int) -> list[float]:
    """One for each draw."""
    return [s.value for s in some if ((s.protocol, s.setting), s.model, s.shots) == (method, model, shots)]


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _column(score: Score) -> str:
    task = "" if score.task in (MEAN, score.dataset) else score.task
    return " ".join(part for part in (task, score.metric, score.setting) if part)


def _title(method: Method) -> str:
    protocol, setting = method
    return f"{protocol}, {setting}" if setting else protocol


def _name(shots: int) -> str:
    return ALL if shots == ALL_SHOTS else str(shots)


def _label(data: ReportData, model: str) -> str:
    return data.labels.get(model, model)


def _table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    gains: Mapping[tuple[int, int], Gain] | None = None,
) -> str:
    """gains: those of some cells, by row and column."""
    columns = f'<th scope="col">{escape(head[0])}</th>'
    columns += "".join(f'<th scope="col" class="n">{escape(name)}</th>' for name in head[1:])
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(
            f'<td class="n">{column(name)}{escape(text)}{_change((gains or {}).get((at, number)))}</td>'
            for number, (name, text) in enumerate(zip(head[1:], row[1:], strict=True), 1)
        )
        + "</tr>"
        for at, row in enumerate(rows)
    )
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table class="cells">{told}<thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _change(gain: Gain | None) -> str:
    return f' <span class="{gain.direction}">{gain_interval(gain)}</span>' if gain else ""
