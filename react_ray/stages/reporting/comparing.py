"""Fills in what the scores say: the table, the gains with their intervals, classes, flipped images and confusions."""

from __future__ import annotations

from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc

from react_ray.artifact import open_artifact
from react_ray.clip.prompts import TOP1, load_tasks
from react_ray.errors import ArtifactMissing
from react_ray.evals.zeroshot import TASK_METRIC
from react_ray.kinds import PREDICTIONS
from react_ray.manifest import MANIFEST
from react_ray.pairs.retrieval import open_retrieval
from react_ray.recipe import Recipe
from react_ray.report.data import MEAN, ClassRow, Cost, ReportData
from react_ray.report.intervals import holm, paired_metric, paired_metric_gain
from react_ray.runtime.layout import HEAD, Layout, scored, shown_name
from react_ray.stages.reporting.flips import flip_examples
from react_ray.stages.reporting.outcomes import Outcomes
from react_ray.storage import open_storage


def compare(recipe: Recipe, data: ReportData) -> None:
    """Adds everything that follows from scores, and the classes with what was retrieved for them."""
    outcomes = Outcomes(recipe)
    sets = outcomes.datasets()
    if sets:
        data.dataset = recipe.evaluate.headline if recipe.evaluate.headline in sets else _last_target(recipe, sets)
        _scores(recipe, data)
        _metric_gains(recipe, data)
    best = data.best_arm
    if best is not None:
        _gains(data, outcomes, best, sets)
    base = data.base_of(best) if best is not None else ""
    counts: dict[tuple[str, str], list[int]] = {}
    if best is not None and outcomes.has(data.dataset, best, base):
        counts = outcomes.class_counts(data.dataset, best, base)
        flipped = outcomes.flipped(data.dataset, best, base)
        data.flipped = {
            task: (
                sum(flip.task == task and flip.arm_said == flip.label for flip in flipped),
                sum(flip.task == task and flip.base_said == flip.label for flip in flipped),
            )
            for task in data.tasks
        }
        data.flips = flip_examples(recipe, data.dataset, flipped)
        data.confusions = outcomes.confusions(data.dataset, best, base)
    data.classes = _classes(recipe, best, counts)


def _last_target(recipe: Recipe, sets: list[str]) -> str:
    """The last set, of those that are off target only if there is no other."""
    return sorted(sets, key=lambda name: name not in recipe.evaluate.off_target)[-1]


def _scores(recipe: Recipe, data: ReportData) -> None:
    """Adds top-1 per task and row, and the metrics that count for other tasks, from what `evaluate` stated."""
    others = {task.name: task.metric for task in load_tasks(recipe.tasks) if task.metric != TOP1}
    for name, uri in scored(recipe).items():
        if not open_storage(uri).exists(MANIFEST):
            continue
        row = shown_name(name)
        facts = open_artifact(uri, PREDICTIONS).facts
        if facts.fitted:
            data.costs[row] = Cost(facts.fitted["seconds"], facts.fitted["bytes"])
        for score in facts.scores:
            if score["dataset"] != data.dataset:
                continue
            own = TASK_METRIC if score["task"] == MEAN else others.get(score["task"], "")
            if others and score["metric"] == own:
                column = MEAN if score["task"] == MEAN else f"{score['task']} {own}"
                data.task_metrics.setdefault(column, {})[row] = score["value"]
            if score["metric"] != TOP1:
                continue
            if score["task"] == MEAN:
                data.mean[row] = score["value"]
            else:
                data.tasks.setdefault(score["task"], {})[row] = score["value"]
                data.num_images[score["task"]] = score["num_images"]


def _metric_gains(recipe: Recipe, data: ReportData) -> None:
    """Adds the gains of this run by the metrics that count for its tasks, where one is not top-1."""
    tasks = [task for task in load_tasks(recipe.tasks) if task.name in data.tasks]
    if all(task.metric == TOP1 for task in tasks):
        return
    uris = {shown_name(name): uri for name, uri in scored(recipe).items()}
    said = {row: _predictions(uris[row], data.dataset) for row in data.mean}
    for row in (row for row in data.mean if not data.is_base(row) and data.base_of(row) in said):
        pairs = {}
        for task in tasks:
            both = (one.filter(pc.equal(one["task"], task.name)) for one in (said[row], said[data.base_of(row)]))
            pairs[task.name] = paired_metric(next(both), next(both), task)
        own = {task: task.metric for task in tasks if task.metric != TOP1}
        gains = holm({task.name: paired_metric_gain([pairs[task.name]]) for task in own})
        data.metric_gains |= {(f"{task.name} {metric}", row): gains[task.name] for task, metric in own.items()}
        data.metric_gains[MEAN, row] = paired_metric_gain(list(pairs.values()))


def _predictions(uri: str, dataset: str) -> pa.Table:
    """Of one set, by task and row; also of all classes, where a metric needs them."""
    table = pa.concat_tables(open_artifact(uri, PREDICTIONS).tables(), promote_options="default")
    table = table.filter(pc.equal(table["dataset"], dataset))
    return table.sort_by([("task", "ascending"), ("row", "ascending")])


def _gains(data: ReportData, outcomes: Outcomes, best: str, sets: list[str]) -> None:
    """Adds what is shown: each row over its base; the best arm over the controls; others over the best arm, and the
    best row of all over pixels; what labelled images trained over the retrieved pairs and over the labels alone."""
    base = data.base_of(best)
    pairs = [(row, data.base_of(row)) for row in data.scored() if not data.is_base(row)]
    pairs += [(best, control) for control in data.controls if control != best]
    pairs += [(row, best) for row in data.customized() if row != best and data.base_of(row) == base]
    pairs += [(data.leader, reference) for reference in data.references if data.leader]
    pairs += [pair for curve in data.label_curves for pair in curve.pairs()]
    for row, over in pairs:
        data.gains |= {(task, row, over): gain for task, gain in outcomes.gains(data.dataset, row, over).items()}
    for dataset in sets:
        if dataset != data.dataset and (found := outcomes.gains(dataset, best, base)):
            data.other_sets[dataset] = found[MEAN]


def _classes(recipe: Recipe, best: str | None, counts: dict[tuple[str, str], list[int]]) -> list[ClassRow]:
    """Returns all classes: those that the shown arm retrieved pairs for, and those of the labelled set."""
    rows: dict[tuple[str, str], ClassRow] = {}
    with suppress(ArtifactMissing):
        retrieval = open_retrieval(Layout(recipe, shown_arm(recipe, best)).retrieved_root())
        for one in retrieval.classes():
            match = one.match or {}
            rows[one.task, one.class_name] = ClassRow(
                one.task,
                one.class_name,
                pairs=None if retrieval.is_random else one.pairs,
                flags=tuple(match.get("flags", ())),
                advice=tuple(match.get("advice", ())),
            )
    for key, (images, before, after) in counts.items():
        row = rows.get(key, ClassRow(*key))
        rows[key] = row._replace(num_images=images, base_correct=before, arm_correct=after)
    return list(rows.values())


def shown_arm(recipe: Recipe, best: str | None) -> str:
    """Returns the arm whose retrieval is shown: the best one, or without scores the last one that is no control."""
    arm = (best or "").removesuffix(HEAD)
    if arm in recipe.arms:
        return arm
    retrieving = [arm for arm in recipe.arm_names() if recipe.arm(arm).retrieve.selection == "hits"]
    return (retrieving or recipe.arm_names())[-1]
