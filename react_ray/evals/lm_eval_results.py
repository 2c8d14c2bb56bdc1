"""The scores of one model in the layout of lm-evaluation-harness's results files, which other tools tabulate."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from statistics import fmean
from typing import Any

from react_ray.evals.score import ALL_SHOTS, COLLAPSED, ZERO_SHOT, Score
from react_ray.evals.shot_methods import BEST_EPOCH
from react_ray.evals.zeroshot import MEAN, TOP1

NAMES = {TOP1: "acc", "top5": "acc_top5"}  # as the harness's own tasks name them; other metrics keep their names


def lm_eval_results(scores: Iterable[Score], model: str, version: str) -> dict[str, Any]:
    """The results of a model, as a value for JSON. scores: of all models. version: of this package.

    A task is a set and a task of the recipe; what learned from labels, or is another protocol than zero-shot
    classification, has the protocol's name and the number of shots behind it. Of several seeds the mean counts. Means
    over tasks are left out, and so is the best epoch on the test set, which is no result. `acc_stderr,none` is the
    harness's sqrt(p (1 - p) / (n - 1)) over the n images; other metrics have "N/A" there, as in the harness.
    """
    found: dict[str, dict[str, list[Score]]] = {}
    for score in scores:
        if score.model == model and score.task != MEAN and score.setting != BEST_EPOCH and score.metric != COLLAPSED:
            found.setdefault(_task(score), {}).setdefault(score.metric, []).append(score)
    results: dict[str, dict[str, Any]] = {}
    for task, metrics in found.items():
        results[task] = {"alias": task}
        for metric, seeds in metrics.items():
            value, num = fmean(score.value for score in seeds), min(score.num for score in seeds)
            stderr = sqrt(value * (1 - value) / (num - 1)) if metric in NAMES and num > 1 else "N/A"
            name = NAMES.get(metric, metric)
            results[task] |= {f"{name},none": value, f"{name}_stderr,none": stderr}
    first = {task: next(iter(metrics.values()))[0] for task, metrics in found.items()}
    return {
        "results": results,
        "configs": {task: {"task": task, "num_fewshot": one.shots} for task, one in first.items()},
        "versions": {task: version for task in first},
        "n-shot": {task: one.shots for task, one in first.items()},
        "n-samples": {task: {"original": one.num, "effective": one.num} for task, one in first.items()},
        "config": {"model": "react_ray", "model_args": f"model={model}"},
        "model_name": model,
    }


def _task(score: Score) -> str:
    name = score.dataset if score.dataset == score.task else f"{score.dataset}_{score.task}"
    if score.protocol != ZERO_SHOT:
        name += f"_{score.protocol}"
    if score.shots:
        name += "_all_shots" if score.shots == ALL_SHOTS else f"_{score.shots}_shot"
    return f"{name}_{score.setting.replace(' ', '_')}" if score.setting else name
