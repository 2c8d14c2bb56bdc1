"""Random pairs: the control, as many pairs as were retrieved, drawn by seed from the whole pool or from what is allowed.

Takes the sizes of the parts, gives pair_ids or a table like that of `select`. Next: stages/retrieval/gather_pairs.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.pair_id import ROW_BITS
from react_ray.selection.select import SELECTED

GROWTH = 4  # of the draw, while too few of it pass


def select_random(
    parts: list[tuple[int, int]],
    count: int,
    seed: int,
    passes: Callable[[np.ndarray], np.ndarray] | None = None,
    what: str = "are there",
) -> pa.Table:
    """`count` pairs drawn by seed from a pool of (part, num_rows): class_id -1, score null, no matches.

    passes(pair_ids int64 [N]) -> bool [N]: which may be drawn, where earlier ones of N come first; what: said of these where
    they are too few. None = all.
    """
    total = sum(num_rows for _, num_rows in parts)
    size = min(total, count)
    while True:  # a larger draw until enough of it passes: the first `count` of them are as random as any
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


def draw(parts: list[tuple[int, int]], count: int, seed: int) -> np.ndarray:
    """pair_ids int64 [count] in the order of the draw, each once; count: at most the size of the pool."""
    parts = sorted(parts)
    sizes = np.array([num_rows for _, num_rows in parts], dtype=np.int64)
    drawn = np.random.default_rng(seed).choice(int(sizes.sum()), size=count, replace=False)
    ends = np.cumsum(sizes)
    at = np.searchsorted(ends, drawn, side="right")
    part = np.array([number for number, _ in parts], dtype=np.int64)[at]
    return part << ROW_BITS | (drawn - (ends - sizes)[at])
