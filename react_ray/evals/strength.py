"""Searches the strength of a penalty on a grid of 97 points, without trying all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

STRENGTHS = np.logspace(-6, 6, 97)  # eight to a decade


def search(judge: Callable[[Sequence[float]], Sequence[tuple[float, ...]]]) -> tuple[float, tuple[float, ...]]:
    """Returns the best strength found, and its judgement.

    judge: gives each of several strengths a tuple, and the greatest tuple is best; of equal ones the first counts.
    Every 16th point is tried, then the neighbours of the best at half the distance, and so on: the search of CLIP
    (arXiv 2103.00020, appendix A.3) and of the ELEVATER toolkit.
    """
    best, judgement = -1, tuple[float, ...]()
    step, tried = 16, list(range(0, len(STRENGTHS), 16))
    while step:
        for point, found in zip(tried, judge(STRENGTHS[tried].tolist()), strict=True):
            if best < 0 or found > judgement:
                best, judgement = point, found
        step //= 2
        tried = [point for point in (best - step, best + step) if 0 <= point < len(STRENGTHS)]
    return float(STRENGTHS[best]), judgement
