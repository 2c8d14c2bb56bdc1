"""Tells a gain from noise: a paired bootstrap over images, stratified by task.

Takes the difference that an arm makes to each image, gives the mean gain with its 95 % interval and p-value. With
several seeds, seeds and images are resampled independently of each other (the pigeonhole bootstrap of Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 2007), because all seeds are scored on the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST_CHANGED = 6  # with 5 images changed, all for the better, an exact sign test still has p = 2 * 0.5 ** 5 = 0.06
CELLS = 4_000_000  # of the counts that are in memory at once


class Gain(NamedTuple):
    """A mean difference of two arms as a fraction of images, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float
    num_changed: int  # images that one arm classifies correctly and the other does not, in any seed
    num_seeds: int = 1
    p: float = 0.0  # two-sided; of one task among several, after Holm's correction over the tasks
    mcnemar: float | None = None  # p of McNemar's exact test; None over several seeds, where images are not independent

    @property
    def told_apart(self) -> bool:
        """True if the difference can be told apart from zero: the interval excludes it, p is small, and enough images
        changed."""
        excluded = self.low > 0 or self.high < 0
        return excluded and self.p < 1 - LEVEL and self.num_changed >= FEWEST_CHANGED

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
    low, high = np.quantile(sums_B / len(tasks), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    zero = 1e-9  # sums of fractions that cancel out are not exactly 0
    fewer = min(int((sums_B <= zero).sum()), int((sums_B >= -zero).sum()))
    return Gain(
        value=float(np.mean([difference.mean() for difference in tasks])),
        low=float(low),
        high=float(high),
        num_changed=sum(int(difference.any(axis=0).sum()) for difference in tasks),
        num_seeds=num_seeds,
        p=min(1.0, 2 * (fewer + 1) / (resamples + 1)),
        mcnemar=mcnemar(*(sum(int((d == sign).sum()) for d in tasks) for sign in (1, -1))) if num_seeds == 1 else None,
    )


def mcnemar(gained: int, lost: int) -> float:
    """Returns the two-sided p-value of McNemar's test: how likely changed images are to split so unevenly by chance.

    Under the null hypothesis each of them is as likely gained as lost, so that the smaller number has a binomial
    distribution (McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 1947; exact, without the normal approximation). Tasks are pooled: each image weighs the
    same, unlike in the bootstrap.
    """
    num = gained + lost
    ways = tail = 1  # of choosing 0 of them, then up to the smaller number, as whole numbers of any size
    for chosen in range(1, min(gained, lost) + 1):
        ways = ways * (num - chosen + 1) // chosen
        tail += ways
    return min(1.0, 2 * tail / 2**num)


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


def method(num_seeds: int) -> str:
    """Says in words how the intervals were made."""
    what = "images" if num_seeds == 1 else f"{num_seeds} seeds and images"
    return f"95 % interval, paired bootstrap over {what} within each task, {RESAMPLES:,} resamples"
