"""PairId: the int64 address of an image-text pair, `part << 20 | row`.

FAISS ids, hits and joins all use it, so that a hit is looked up by arithmetic and not in a database. A part holds at
most 2**20 rows; there may be 2**43 parts.
"""

from __future__ import annotations

import numpy as np

ROW_BITS = 20
MAX_ROWS_PER_PART = 1 << ROW_BITS


def pair_ids(part: int, num_rows: int) -> np.ndarray:
    """Returns the ids of a whole part, int64 [num_rows]."""
    if not 0 <= num_rows <= MAX_ROWS_PER_PART:
        raise ValueError(f"a part holds at most {MAX_ROWS_PER_PART} rows, not {num_rows}")
    return (np.int64(part) << ROW_BITS) | np.arange(num_rows, dtype=np.int64)


def part_of(pair_id: np.ndarray) -> np.ndarray:
    return np.asarray(pair_id, dtype=np.int64) >> ROW_BITS


def row_of(pair_id: np.ndarray) -> np.ndarray:
    return np.asarray(pair_id, dtype=np.int64) & (MAX_ROWS_PER_PART - 1)
