"""Columns of unit vectors: float16 [N, D] in memory, fixed_size_list<float16>[D] on disk, null where there is none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def as_vectors(vector_ND: np.ndarray) -> pa.FixedSizeListArray:
    """float16 [N, D] -> a column; rows that are not finite become null."""
    bad = ~np.isfinite(vector_ND).all(axis=1)
    values = np.where(bad[:, None], np.float16(0), vector_ND).astype(np.float16)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)), vector_ND.shape[1], mask=pa.array(bad)
    )


def from_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A column -> float16 [N, D]; null rows become NaN."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    dim = array.type.list_size
    values = array.values.slice(array.offset * dim, len(array) * dim).to_numpy(zero_copy_only=False).reshape(-1, dim)
    nulls = array.is_null().to_numpy(zero_copy_only=False)
    return np.where(nulls[:, None], np.float16(np.nan), values).astype(np.float16)
