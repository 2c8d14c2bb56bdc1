"""Says what a comparison means, one line for each model and set, the worst news first.

A difference whose interval contains zero is "not told apart": neither a gain nor a loss, whatever its sign.
"""

from __future__ import annotations

from collections.abc import Sequence

from react_ray.clip.prompts import MAP_11_POINT, MEAN_PER_CLASS, ROC_AUC, TOP1
from react_ray.comparison.compare import Comparison, Difference
from react_ray.comparison.wise_ft import Curve
from react_ray.counted import counted
from react_ray.evals.zeroshot import TASK_METRIC
from react_ray.report.numbers import gain_points, interval, probability
from react_ray.report.verdict import Sentence

METRICS = {
    MEAN_PER_CLASS: "mean per class",
    MAP_11_POINT: "11-point mAP",
    ROC_AUC: "ROC-AUC",
    TASK_METRIC: "by each task's metric",
}


def sentences(comparison: Comparison, curves: Sequence[Curve] = ()) -> list[Sentence]:
    """What was forgotten comes first, then other losses, then the rest in the order of models and sets.

    curves: where they have a chosen weight, only this weight has sentences, so that no better one is picked by its
    result.
    """
    chosen = {curve.label for curve in curves if curve.chosen is not None}
    shown = [
        one for one in comparison.differences if one.model in chosen or not any(c.chosen is not None for c in curves)
    ]
    found = [(_rank(one), _sentence(one, comparison.base)) for one in shown]
    return [sentence for _, sentence in sorted(found, key=lambda item: item[0])]


def _rank(one: Difference) -> int:
    return 2 if one.gain.direction != "loss" else 0 if one.off_target else 1


def _sentence(one: Difference, base: str) -> Sentence:
    kind, on = one.gain.direction, f"{one.dataset} (off target)" if one.off_target else one.dataset
    low, high = interval(one.gain).strip("[]").split(", ")
    metric = "" if one.metric == TOP1 else f" {METRICS.get(one.metric, one.metric)}"
    number = f"{gain_points(one.gain.value)}{metric}, 95 % interval {low} to {high}, {counted(one.num_images, 'image')}"
    if one.gain.mcnemar is not None:
        number += f", McNemar p {probability(one.gain.mcnemar)}"
    if kind == "same":
        return Sentence(kind, f"{one.model} is not told apart from {base} on {on}: {number}")
    if one.off_target and kind == "loss":
        return Sentence(kind, f"{one.model} forgot: {number}, on {on} against {base}")
    return Sentence(kind, f"{one.model} is {'above' if kind == 'gain' else 'below'} {base} on {on}: {number}")
