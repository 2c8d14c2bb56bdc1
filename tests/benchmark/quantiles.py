"""Median and 99th percentile of the time that one call takes, for work that is repeated."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np


def quantiles(work: Callable[[int], Any], times: int, inputs: int) -> tuple[float, float]:
    """(p50, p99) in milliseconds, after a tenth as many tries that do not count. work: called with 0 to inputs - 1."""
    taken = []
    for number in range(times + times // 10):
        began = time.perf_counter()
        work(number % inputs)
        taken.append(1000 * (time.perf_counter() - began))
    return of(taken[times // 10 :])


async def awaited(work: Callable[[int], Awaitable[Any]], times: int, inputs: int) -> tuple[float, float]:
    """As `quantiles`."""
    taken = []
    for number in range(times + times // 10):
        began = time.perf_counter()
        await work(number % inputs)
        taken.append(1000 * (time.perf_counter() - began))
    return of(taken[times // 10 :])


def of(taken: list[float]) -> tuple[float, float]:
    p50, p99 = np.quantile(taken, [0.5, 0.99]).round(2).tolist()
    return p50, p99
