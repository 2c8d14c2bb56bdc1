"""Writes a comparison as a table for the terminal, and as values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from react_ray.clip.prompts import MEAN_PER_CLASS, TOP1, TargetTask
from react_ray.comparison.compare import Comparison, Difference
from react_ray.comparison.compared_model import ComparedModel
from react_ray.comparison.labelled_set import LabelledSet
from react_ray.comparison.sentences import sentences
from react_ray.comparison.wise_ft import Curve
from react_ray.counted import counted
from react_ray.evals import resampled
from react_ray.evals.zeroshot import MEAN, TASK_METRIC
from react_ray.report.intervals import RESAMPLES, method
from react_ray.report.numbers import points
from react_ray.report.table import CONFUSED, Rows, taken_for

METRICS = {TOP1: "top-1", MEAN_PER_CLASS: "per class"}


def caption(comparison: Comparison, sets: Sequence[LabelledSet]) -> str:
    """What the table is of: a line of the metric, then one for each set."""
    of = (
        f"{_role(one)}: {counted(_num(comparison, one), 'image')}, {_classes(tasks_of(comparison, one))}"
        for one in sets
    )
    return "\n".join(("zero-shot classification, points", *of))


def tasks_of(comparison: Comparison, one: LabelledSet) -> list[TargetTask]:
    """The tasks of which the set has images."""
    scored = {score.task for score in comparison.scores if score.dataset == one.name}
    return [task for task in one.tasks if task.name in scored]


def table(comparison: Comparison, sets: Sequence[LabelledSet]) -> Rows:
    """The head, then a row for each model, with columns of sets: top-1 accuracy and the mean over classes, in points.

    A set whose tasks have other metrics, such as mAP, has a column of these too.
    """
    columns = [(one.name, metric, name) for one in sets for metric, name in METRICS.items()]
    columns += [(one.name, TASK_METRIC, _own_metric(one)) for one in sets if _own_metric(one)]
    columns.sort(key=lambda column: [one.name for one in sets].index(column[0]))
    rows = [["", *(f"{dataset} {name}" for dataset, _, name in columns)]]
    for model in comparison.models:
        rows.append([model, *(points(comparison.value(model, dataset, metric)) for dataset, metric, _ in columns)])
    return rows


def confused(comparison: Comparison, sets: Sequence[LabelledSet]) -> list[tuple[str, Rows]]:
    """For each set, a caption and a table of the classes that are confused most often, by any of the models; nothing of
    a set where each mistake occurs once, and of a validation set, which shows no result."""
    tables = []
    for one in (one for one in sets if not one.validation):
        counts = [comparison.mistakes[model, one.name] for model in comparison.models]
        most = {pair: max(count[pair] for count in counts) for count in counts for pair in count}
        shown = sorted((pair for pair in most if most[pair] > 1), key=lambda pair: (-most[pair], pair))[:CONFUSED]
        if shown:
            of_task = len(tasks_of(comparison, one)) > 1
            rows = [
                [taken_for(pair.label, pair.predicted, pair.task * of_task), *(str(count[pair]) for count in counts)]
                for pair in shown
            ]
            tables.append((f"most confused classes on {_role(one)}, images", [["", *comparison.models], *rows]))
    return tables


def notes(differences: Sequence[Difference], num_said: int) -> str:
    """How the intervals were made, below so many sentences; or that one model has none."""
    if not differences:
        return "One model has nothing that it differs from; name a second one behind it, and it is the base."
    own = {one.metric for one in differences} != {TOP1}
    what = "of top-1 accuracy, or of the metric that is named" if own else "of top-1 accuracy"
    how = method(1, resampled.RESAMPLES if own else RESAMPLES)
    more = f"; one of twenty comparisons without an effect excludes zero, and here are {num_said}"
    doubt = (
        " Where the interval excludes zero but McNemar's p is not below 0.05, the two are not told apart."
        if any(one.gain.is_in_doubt for one in differences)
        else ""
    )
    return f"Differences in points {what}: {how}{more if num_said > 1 else ''}.{doubt}"


def values(
    comparison: Comparison, models: Sequence[ComparedModel], sets: Sequence[LabelledSet], curves: Sequence[Curve]
) -> dict[str, Any]:
    """All that was found, with figures as fractions."""
    return {
        "base": comparison.base,
        "models": [{"label": one.label, "given": one.given, "wise_ft": one.wise_ft} for one in models],
        "sets": [
            {
                "name": one.name,
                "uri": one.uri,
                "off_target": one.off_target,
                "validation": one.validation,
                "num_images": _num(comparison, one),
                "tasks": {task.name: list(task.class_names) for task in tasks_of(comparison, one)},
                "templates": {task.name: list(task.templates) for task in tasks_of(comparison, one)},
            }
            for one in sets
        ],
        "scores": [score._asdict() for score in comparison.scores],
        "differences": [
            {
                "model": one.model,
                "dataset": one.dataset,
                "off_target": one.off_target,
                "num_images": one.num_images,
                "metric": one.metric,
                "gain": one.gain.value,
                "low": one.gain.low,
                "high": one.gain.high,
                "num_changed": one.gain.num_changed,
                "p": one.gain.p,
                "mcnemar_p": one.gain.mcnemar,
                "told_apart": one.gain.told_apart,
            }
            for one in comparison.differences
        ],
        "wise_ft": [
            {"model": one.model, "chosen": one.chosen, "points": [point._asdict() for point in one.points]}
            for one in curves
        ],
        "confused": [
            {"model": model, "dataset": dataset, **pair._asdict(), "num_images": number}
            for (model, dataset), found in comparison.mistakes.items()
            for pair, number in found.most_common(CONFUSED)
            if number > 1
        ],
        "verdict": [sentence.text for sentence in sentences(comparison, curves)],
        "method": method(1),
    }


def _own_metric(one: LabelledSet) -> str:
    """The metric of the set's tasks beyond those that every set has; "" if there is none."""
    own = {task.metric for task in one.tasks} - set(METRICS)
    return own.pop() if len(own) == 1 else "own metrics" if own else ""


def _num(comparison: Comparison, one: LabelledSet) -> int:
    return next(score.num for score in comparison.scores if (score.dataset, score.task) == (one.name, MEAN))


def _role(one: LabelledSet) -> str:
    return one.name + " (off target)" * one.off_target + " (validation)" * one.validation


def _classes(tasks: Sequence[TargetTask]) -> str:
    """How many there are, and how they are asked for, on which the accuracy depends."""
    total = sum(len(task.class_names) for task in tasks)
    told = counted(total, "class", "classes") + (f" of {len(tasks)} tasks" if len(tasks) > 1 else "")
    templates = {task.templates for task in tasks}
    if len(templates) > 1:
        return f"{told}, {min(map(len, templates))} to {max(map(len, templates))} templates"
    [first, *others] = templates.pop()
    return f"{told}, " + (f"{1 + len(others)} templates such as {others[0]!r}" if others else f"template {first!r}")
