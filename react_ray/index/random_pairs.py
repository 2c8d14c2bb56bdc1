"""Random pairs: the control, as many pairs as were retrieved, drawn by seed from the whole pool or from what is allowed.

Takes the sizes of the parts, gives pair_ids or a table like that of `select`. Next: stages/collect.py.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.index.allowed import Allowed
from react_ray.index.select import SELECTED
from react_ray.pair_id import ROW_BITS


def select_random(parts: list[tuple[int, int]], count: int, seed: int, allowed: Allowed | None = None) -> pa.Table:
    """`count` pairs drawn by seed from a pool of (part, num_rows): class_id -1, score null, no matches.

    allowed: the pairs that may be drawn; None = all.
    """
    pairs = draw(parts, count, seed) if allowed is None else _draw_allowed(parts, count, seed, allowed)
    return as_random(pairs)


def as_random(pair_ids: np.ndarray) -> pa.Table:
    """SELECTED of pairs that no class asked for."""
    count = len(pair_ids)
    return pa.table(
        {
            "pair_id": pair_ids,
            "class_id": np.full(count, -1, dtype=np.int32),
            "score": pa.nulls(count, pa.float32()),
            "matches": pa.array([[]] * count, type=SELECTED.field("matches").type),
        },
        schema=SELECTED,
    )


def draw(parts: list[tuple[int, int]], count: int, seed: int, in_order: bool = True) -> np.ndarray:
    """pair_ids int64 [count], each once, ascending or in the order of the draw. ConfigError if the pool is smaller."""
    parts = sorted(parts)
    sizes = np.array([num_rows for _, num_rows in parts], dtype=np.int64)
    total = int(sizes.sum())
    if count > total:
        raise ConfigError(
            f"retrieve.max_pairs: {count} random pairs were asked for, the pool has {total}; ask for fewer"
        )
    drawn = np.random.default_rng(seed).choice(total, size=count, replace=False)
    drawn = np.sort(drawn) if in_order else drawn
    ends = np.cumsum(sizes)
    at = np.searchsorted(ends, drawn, side="right")
    part = np.array([number for number, _ in parts], dtype=np.int64)[at]
    return part << ROW_BITS | (drawn - (ends - sizes)[at])


def _draw_allowed(parts: list[tuple[int, int]], count: int, seed: int, allowed: Allowed) -> np.ndarray:
    if count > allowed.count:
        raise ConfigError(
            f"retrieve.max_pairs: {count} random pairs were asked for, {allowed.count} pass retrieve.filters; ask for fewer"
        )
    total = sum(num_rows for _, num_rows in parts)
    size = count
    while True:  # a larger draw until enough of it is allowed: the first `count` of them are as random as any
        drawn = draw(parts, size, seed, in_order=False)
        drawn = drawn[allowed.contains(drawn)]
        if len(drawn) >= count:
            return np.sort(drawn[:count])
        size = min(total, 4 * size)
