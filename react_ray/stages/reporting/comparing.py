"""Fills in what the scores say: the table, the gains with their intervals, classes, flipped images and confusions."""

from __future__ import annotations

from contextlib import suppress

from react_ray.artifact import open_artifact
from react_ray.errors import ArtifactMissing
from react_ray.evals import pixel_knn
from react_ray.evals.zeroshot import summarise
from react_ray.kinds import PREDICTIONS
from react_ray.manifest import MANIFEST
from react_ray.pairs.retrieval import open_retrieval
from react_ray.recipe import Recipe
from react_ray.report.data import MEAN, ClassRow, ReportData
from react_ray.runtime.layout import Layout
from react_ray.stages.reporting.flips import flip_examples
from react_ray.stages.reporting.outcomes import Outcomes, scores_uri
from react_ray.storage import open_storage


def compare(recipe: Recipe, data: ReportData) -> None:
    """Adds everything that follows from scores, and the classes with what was retrieved for them."""
    outcomes = Outcomes(recipe)
    sets = outcomes.datasets()
    if sets:
        data.dataset = recipe.evaluate.headline if recipe.evaluate.headline in sets else sets[-1]
        _scores(recipe, data)
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


def _scores(recipe: Recipe, data: ReportData) -> None:
    """Adds top-1 per task and model, from the facts that `evaluate` stated."""
    for name in [*recipe.bases(), *recipe.arm_names()]:
        uri = scores_uri(recipe, name)
        if not open_storage(uri).exists(MANIFEST):
            continue
        for row in open_artifact(uri, PREDICTIONS).facts.scores:
            if row["dataset"] != data.dataset or row["metric"] != "top1":
                continue
            if row["task"] == MEAN:
                data.mean[name or "customized"] = row["value"]
            else:
                data.tasks.setdefault(row["task"], {})[name or "customized"] = row["value"]
                data.num_images[row["task"]] = row["num_images"]
    config = recipe.evaluate
    if config.pixel_knn:
        rows = summarise(pixel_knn.run(config.pixel_knn, data.dataset))
        line = {task: value for _, task, metric, value, _ in rows if metric == "top1"}
        data.reference_lines = {"1-NN on 16x16 pixels, with labels": line}


def _gains(data: ReportData, outcomes: Outcomes, best: str, sets: list[str]) -> None:
    for arm in data.scored_arms():
        base = data.base_of(arm)
        if arm != base:
            found = outcomes.gains(data.dataset, arm, base)
            data.gains |= {(task, arm, base): gain for task, gain in found.items()}
        if arm not in (best, base) and base == data.base_of(best):
            pair = (best, arm) if arm in data.controls else (arm, best)
            found = outcomes.gains(data.dataset, *pair)
            data.gains |= {(MEAN, *pair): found[MEAN]} if found else {}
    for dataset in sets:
        if dataset != data.dataset and (found := outcomes.gains(dataset, best, data.base_of(best))):
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
    if best in recipe.arms:
        return best
    retrieving = [arm for arm in recipe.arm_names() if recipe.arm(arm).retrieve.selection != "random"]
    return (retrieving or recipe.arm_names())[-1]
