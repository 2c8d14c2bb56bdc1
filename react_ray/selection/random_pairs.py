"""Draws random pairs as a control: as many as were retrieved, from the whole pool or from the pairs that pass the
filters.

Takes the sizes of the parts and a seed; gives pair_ids, or a table like that of `select`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.pair_id import ROW_BITS
from react_ray.selection.select import SELECTED

GROWTH = 4  # factor by which the draw grows while too few of its pairs pass


def select_random(
    parts: list[tuple[int, int]],
    count: int,
    seed: int,
    passes: Callable[[np.ndarray], np.ndarray] | None = None,
    what: str = "are there",
) -> pa.Table:
    """Draws `count` pairs by seed from a pool of (part, num_rows); they have class_id -1, a null score and no matches.

    passes(pair_ids int64 [N]) returns bool [N], the pairs that may be drawn; earlier pairs take precedence (of two
    duplicates the earlier one passes). None = every pair passes. what: the end of the error message if too few pass.
    """
    total = sum(num_rows for _, num_rows in parts)
    size = min(total, count)
    while True:  # a larger draw until enough pairs pass: its first `count` are as random as any
        drawn = draw(parts, size, seed)
        kept = drawn if passes is None else drawn[passes(drawn)]
        if len(kept) >= count:
            return as_random(np.sort(kept[:count]))
        if size == total:
            raise ConfigError(
                f"retrieve.max_pairs: {count} random pairs were asked for, {len(kept)} {what}; ask for fewer"
            )
        size = min(total, GROWTH * size)


def as_random(pair_ids: np.ndarray) -> pa.Table:
    """Returns a SELECTED table of pairs that belong to no class."""
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


def draw(parts: list[tuple[int, int]], count: int, seed: int) -> np.ndarray:
    """Returns pair_ids int64 [count] in the order of the draw, each once. count is at most the size of the pool."""
    parts = sorted(parts)
    sizes = np.array([num_rows for _, num_rows in parts], dtype=np.int64)
    drawn = np.random.default_rng(seed).choice(int(sizes.sum()), size=count, replace=False)
    ends = np.cumsum(sizes)
    at = np.searchsorted(ends, drawn, side="right")
    part = np.array([number for number, _ in parts], dtype=np.int64)[at]
    return part << ROW_BITS | (drawn - (ends - sizes)[at])
