"""Writes the scores of all protocols as text for the terminal: a table for each protocol and labelled set.

A row is a model. Of zero-shot classification a column is a task, by the metric that counts for it; of classifiers that
learned from few labels it is a number of shots, by the mean over tasks of these metrics; of other protocols it is a
metric. Figures of several seeds are a mean with the standard deviation.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from react_ray.clip.prompts import TOP1
from react_ray.evals.score import ALL_SETS, ALL_SHOTS, ZERO_SHOT, Place, Score, place_of
from react_ray.evals.zeroshot import MEAN, TASK_METRIC
from react_ray.report.intervals import Gain, method
from react_ray.report.numbers import points

WIDTH = 100  # characters of a terminal; columns that do not fit go into a further table
GAP = "  "
Cells = dict[str, dict[str, list[float]]]  # column -> model -> its values, one for each seed


def score_tables(
    scores: Sequence[Score], metric_of: Mapping[str, str], gains: Mapping[Place, Gain] | None = None
) -> str:
    """Returns plain text, in points. metric_of: task -> its own metric. gains: of scores over their base; a star marks
    what is told apart."""
    blocks = []
    told_apart = {key for key, gain in (gains or {}).items() if gain.told_apart}
    groups = [(score.protocol, _set(score, metric_of)) for score in scores]
    for protocol, dataset in dict.fromkeys(groups):
        some = [score for score, group in zip(scores, groups, strict=True) if group == (protocol, dataset)]
        own = [one for one in some if _counts(one, metric_of)] if protocol == ZERO_SHOT or some[0].shots else some
        metrics = {score.metric for score in own} - {TASK_METRIC}
        metric = metrics.pop() if protocol == ZERO_SHOT and len(metrics) == 1 else ""
        cells: Cells = {}
        stars = {
            (score.model, _column(score, metric_of, own, metric)) for score in own if place_of(score) in told_apart
        }
        for score in own:
            cells.setdefault(_column(score, metric_of, own, metric), {}).setdefault(score.model, []).append(score.value)
        rows = list(dict.fromkeys(score.model for score in own))
        blocks.append(
            f"{protocol} on {dataset}, {f'{metric}, ' if metric else ''}points\n{_tables(cells, rows, stars)}"
        )
        if any(place_of(score) in (gains or {}) for score in own):
            blocks[-1] += f"*: differs from its base; {method(1, resamples=0)}.\n"
    return "\n".join(blocks)


def _set(score: Score, metric_of: Mapping[str, str]) -> str:
    """Sets that are named as their task stand in one table."""
    return ALL_SETS if score.protocol == ZERO_SHOT and score.dataset in metric_of else score.dataset


def _counts(score: Score, metric_of: Mapping[str, str]) -> bool:
    """True for a task's own metric, and for the mean over tasks."""
    if score.shots:  # a column for each number of shots, and not for each task besides
        return (score.task, score.metric) == (MEAN, TASK_METRIC)
    if score.task == MEAN and score.dataset in metric_of:
        return False
    return score.metric == (TASK_METRIC if score.task == MEAN else metric_of.get(score.task, TOP1))


def _column(score: Score, metric_of: Mapping[str, str], shown: Sequence[Score], metric: str) -> str:
    """metric: of all tasks, which the title names; "" if they differ."""
    if score.protocol == ZERO_SHOT:
        if score.task != MEAN:
            return score.task if metric else f"{score.task} {metric_of.get(score.task, TOP1)}"
        num_tasks = len({one.task for one in shown} - {MEAN})
        return MEAN if num_tasks >= len(metric_of) else f"{MEAN} of {num_tasks} of {len(metric_of)} tasks"
    if score.shots:
        shots = {1: "1 shot", ALL_SHOTS: "all"}.get(score.shots, f"{score.shots} shots")
        return " ".join(part for part in (shots, score.setting) if part)
    task = "" if score.task in (MEAN, score.dataset) else score.task
    return " ".join(part for part in (task, score.metric, score.setting) if part)


def _tables(cells: Cells, rows: list[str], stars: set[tuple[str, str]]) -> str:
    """Tables that are at most WIDTH characters wide. stars: (model, column)."""
    indent = max(map(len, rows), default=0)
    tables: list[list[list[str]]] = []
    room = 0
    for column, of in cells.items():
        texts = [column, *(cell(of.get(model, [])) + "*" * ((model, column) in stars) for model in rows)]
        if stars:  # so that numbers stand below each other
            texts[1:] = [text if text.endswith("*") else f"{text} " for text in texts[1:]]
        needed = len(GAP) + max(map(len, texts))
        if not tables or needed > room:
            tables.append([[text.ljust(indent)] for text in ("", *rows)])
            room = WIDTH - indent
        room -= needed
        for line, text in zip(tables[-1], texts, strict=True):
            line.append(text.rjust(needed - len(GAP)))
    return "\n".join("".join(f"{GAP.join(line).rstrip()}\n" for line in table) for table in tables)


def cell(values: Sequence[float]) -> str:
    """Returns the mean of a figure over seeds, in points."""
    if not values:
        return "–"
    spread = f" ± {points(statistics.stdev(values))}" if len(values) > 1 else ""
    return f"{points(statistics.fmean(values))}{spread}"
