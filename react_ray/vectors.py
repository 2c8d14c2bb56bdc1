"""Converts columns of unit vectors between memory (float16 [N, D]) and disk (fixed-size binary).

A stored vector is D little-endian float16 values in one binary value, null if there is no vector. Lists of float16
would take 3 times the processor time to read from Parquet, and 9 times to write (tests/benchmark/bench_vectors.py).
To read a file without this package: `np.frombuffer(b"".join(table["image"].drop_null().to_pylist()),
np.float16).reshape(-1, D)`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from react_ray import schema


def as_vectors(vector_ND: np.ndarray) -> pa.FixedSizeBinaryArray:
    """Turns float16 [N, D] into a column; rows that are not finite become null."""
    bad_N = ~np.isfinite(vector_ND).all(axis=1)
    values = np.where(bad_N[:, None], np.float16(0), vector_ND) if bad_N.any() else vector_ND
    packed = np.packbits(~bad_N, bitorder="little") if bad_N.any() else None
    data = np.ascontiguousarray(values, dtype="<f2")
    buffers = [None if packed is None else pa.py_buffer(packed), pa.py_buffer(data)]
    return pa.FixedSizeBinaryArray.from_buffers(schema.vector(data.shape[1]), len(data), buffers)


def from_vectors(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Turns a column into float16 [N, D]; null rows become NaN."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    dim = schema.dim_of(array.type)
    values = np.frombuffer(array.buffers()[1] or b"", dtype="<f2").reshape(-1, dim)[
        array.offset : array.offset + len(array)
    ]
    if not array.null_count:
        return values
    # pyarrow's to_numpy would import pandas, a third of a second at the first call.
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    valid_N = np.unpackbits(bits, count=array.offset + len(array), bitorder="little")[array.offset :].astype(bool)
    return np.where(valid_N[:, None], values, np.float16(np.nan))


def unit_rows(vector_ND: np.ndarray) -> np.ndarray:
    """Normalises floats [N, D] to float16 rows of length 1; a row that is not finite, or null, becomes all NaN."""
    vector_ND = vector_ND.astype(np.float32)
    norm_N1 = np.linalg.norm(vector_ND, axis=1, keepdims=True)
    norm_N1[~((norm_N1 > 1e-12) & np.isfinite(norm_N1))] = np.nan
    return (vector_ND / norm_N1).astype(np.float16)


def embeddings_table(
    pair_id: pa.ChunkedArray | pa.Array,
    image_ND: np.ndarray,
    text_ND: np.ndarray,
    status_N: np.ndarray,
    heads: dict[str, pa.Array],
) -> pa.Table:
    """Returns schema.embeddings from float16 unit vectors, NaN where there is no vector.

    The similarity is computed from the stored (rounded) vectors.
    """
    similarity_N = np.einsum("nd,nd->n", image_ND.astype(np.float32), text_ND.astype(np.float32))
    columns = {
        "pair_id": pair_id,
        "image": as_vectors(image_ND),
        "text": as_vectors(text_ND),
        "status": pa.array(status_N, pa.string()),
        "similarity": pa.array(similarity_N, pa.float32(), from_pandas=True),
    }
    return schema.conform(pa.table(columns | heads), schema.embeddings(image_ND.shape[1], list(heads)))
