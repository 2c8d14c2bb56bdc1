"""Tells a gain from noise: a paired bootstrap over images, stratified by task.

`paired_gain` is of accuracy, `paired_metric_gain` of any metric of images.

Takes the difference that an arm makes to each image, gives the mean gain with its 95 % interval and p-value. With
several seeds, seeds and images are resampled independently of each other (the pigeonhole bootstrap of Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 2007), because all seeds are scored on the same images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from react_ray.clip.prompts import TargetTask
from react_ray.evals import resampled
from react_ray.evals.resampled import Metric, metric_of

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST_CHANGED = 6  # with 5 images changed, all for the better, an exact sign test still has p = 2 * 0.5 ** 5 = 0.06
CELLS = 4_000_000  # of the counts that are in memory at once


class Gain(NamedTuple):
    """A mean difference of two arms as a fraction, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float
    num_changed: int  # images about which the arms differ, in any seed
    num_seeds: int = 1
    p: float = 0.0  # two-sided; of one task among several, after Holm's correction over the tasks
    mcnemar: float | None = None  # p of McNemar's exact test of accuracies; None over seeds, which share their images
    num_tasks: int = 1

    @property
    def told_apart(self) -> bool:
        """True if the difference can be told apart from zero: the interval excludes it, p is small, enough images
        changed, and McNemar's test agrees where it asks the same: of few images the bootstrap's interval is narrow."""
        enough = self.p < 1 - LEVEL and self.num_changed >= FEWEST_CHANGED
        return self._excludes_zero and enough and not self.is_in_doubt

    @property
    def is_in_doubt(self) -> bool:
        """True if the interval excludes zero, but the changes may be chance by McNemar's test. Of several tasks it
        pools the images, which is another question."""
        asks_the_same = self.num_tasks == 1 and self.mcnemar is not None
        return self._excludes_zero and asks_the_same and (self.mcnemar or 0) >= 1 - LEVEL

    @property
    def _excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    @property
    def direction(self) -> str:
        """Returns "gain", "loss", or "same" for a difference that could be noise."""
        return "same" if not self.told_apart else "gain" if self.value > 0 else "loss"


def paired_gain(tasks: Sequence[np.ndarray], resamples: int = RESAMPLES, seed: int = 0) -> Gain:
    """Returns the gain as the unweighted mean over tasks, with its interval; the same input gives the same numbers.

    tasks: for each task, whole numbers [S, N] of S seeds and N images: 1 if only the arm is correct, -1 if only the
    model that it is compared with is, 0 otherwise. There is at least one task, and each has images.

    Images with the same differences in all seeds are exchangeable, so each resample draws how often each pattern
    occurs (a multinomial) instead of N images. The p-value is twice the share of resamples on the far side of zero, or
    at it, and never below 2 / (resamples + 1) (Davison and Hinkley, "Bootstrap Methods and their Application", 1997,
    equation 4.11).
    """
    random = np.random.default_rng(seed)
    num_seeds = tasks[0].shape[0]
    seeds_BS = random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=resamples) / num_seeds
    sums_B = np.zeros(resamples)
    for difference_SN in tasks:
        num_images = difference_SN.shape[1]
        pattern_SP, count_P = np.unique(difference_SN, axis=1, return_counts=True)
        at_once = max(1, CELLS // len(count_P))
        for start in range(0, resamples, at_once):
            some = slice(start, min(start + at_once, resamples))
            drawn_BP = random.multinomial(num_images, count_P / num_images, size=some.stop - some.start)
            sums_B[some] += ((seeds_BS[some] @ pattern_SP) * drawn_BP).sum(axis=1) / num_images
    return Gain(
        float(np.mean([difference.mean() for difference in tasks])),
        *_bounds(sums_B / len(tasks)),
        num_changed=sum(int(difference.any(axis=0).sum()) for difference in tasks),
        num_seeds=num_seeds,
        p=_p_value(sums_B),
        mcnemar=mcnemar(*(sum(int((d == sign).sum()) for d in tasks) for sign in (1, -1))) if num_seeds == 1 else None,
        num_tasks=len(tasks),
    )


class Paired(NamedTuple):
    """What two models do with the images of one task."""

    one: Metric
    other: Metric
    changed_N: np.ndarray  # bool: images about which they differ


def paired_metric(one: pa.Table, other: pa.Table, task: TargetTask) -> Paired:
    """By the metric that counts for the task. one, other: predictions of the same images, as of `metric_of`."""
    changed_N = np.array(one["predicted"].to_pylist(), object) != np.array(other["predicted"].to_pylist(), object)
    if "class_scores" in one.column_names:  # which rank the images
        changed_N |= np.array(
            [a != b for a, b in zip(*(t["class_scores"].to_pylist() for t in (one, other)), strict=True)]
        )
    return Paired(metric_of(one, task), metric_of(other, task), changed_N)


def paired_metric_gain(tasks: Sequence[Paired], resamples: int = resampled.RESAMPLES, seed: int = 0) -> Gain:
    """As `paired_gain`, of any metric of images, with one seed; NaN if a task has no value.

    Images are drawn within each task whatever their class, so that a class with few images counts for what it is worth.
    Resamples without a value, as of one class alone, are left out.
    """
    random = np.random.default_rng(seed)
    sums_B, value = np.zeros(resamples), 0.0
    for one, other, changed_N in tasks:
        num_images = len(changed_N)
        once_1N = np.ones((1, num_images), np.int64)
        value += float(one(once_1N)[0] - other(once_1N)[0]) / len(tasks)
        at_once = max(1, CELLS // num_images)
        for start in range(0, resamples, at_once):
            some = slice(start, min(start + at_once, resamples))
            weight_BN = random.multinomial(num_images, np.full(num_images, 1 / num_images), size=some.stop - some.start)
            sums_B[some] += one(weight_BN) - other(weight_BN)
    sums_B = sums_B[~np.isnan(sums_B)]
    num_changed = sum(int(task.changed_N.sum()) for task in tasks)
    if not len(sums_B):
        return Gain(value, float("nan"), float("nan"), num_changed, p=1.0, num_tasks=len(tasks))
    return Gain(value, *_bounds(sums_B / len(tasks)), num_changed, p=_p_value(sums_B), num_tasks=len(tasks))


def _bounds(value_B: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(value_B, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _p_value(value_B: np.ndarray) -> float:
    zero = 1e-9  # sums of fractions that cancel out are not exactly 0
    fewer = min(int((value_B <= zero).sum()), int((value_B >= -zero).sum()))
    return min(1.0, 2 * (fewer + 1) / (len(value_B) + 1))


def mcnemar(gained: int, lost: int) -> float:
    """Returns the two-sided p-value of McNemar's test: how likely changed images are to split so unevenly by chance.

    Under the null hypothesis each of them is as likely gained as lost, so that the smaller number has a binomial
    distribution (McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 1947; without the normal approximation, to nine digits). Tasks are pooled: each image
    weighs the same, unlike in the bootstrap.
    """
    num, few = gained + lost, min(gained, lost)
    ways = math.lgamma(num + 1) - math.lgamma(few + 1) - math.lgamma(num - few + 1)
    chosen_K = np.arange(few, 0, -1)
    smaller = np.cumprod(chosen_K / (num - chosen_K + 1)).sum()  # what the smaller numbers add, as shares of this one
    return float(min(1.0, 2 * math.exp(ways - num * math.log(2)) * (1 + smaller)))


def holm(gains: dict[str, Gain]) -> dict[str, Gain]:
    """Returns the gains of several tasks with their p-values corrected for their number.

    The chance that any gain without an effect falls below a level is then at most that level (Holm, "A simple
    sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979).
    """
    corrected, highest = {}, 0.0
    for rank, (task, gain) in enumerate(sorted(gains.items(), key=lambda item: item[1].p)):
        highest = max(highest, min(1.0, (len(gains) - rank) * gain.p))
        corrected[task] = gain._replace(p=highest)
    return {task: corrected[task] for task in gains}


def method(num_seeds: int, resamples: int = RESAMPLES) -> str:
    """Says in words how the intervals were made. resamples: 0 = their number is not told."""
    what = "images" if num_seeds == 1 else f"{num_seeds} seeds and images"
    count = f", {resamples:,} resamples" if resamples else ""
    return f"95 % interval, paired bootstrap over {what} within each task{count}"
