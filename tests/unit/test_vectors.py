"""Vectors go to disk and come back bit by bit."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray import schema
from react_ray.vectors import as_vectors, from_vectors


def bits(vector_ND: np.ndarray) -> np.ndarray:
    assert vector_ND.dtype == np.float16
    return vector_ND.view(np.uint16)


def every_float16() -> np.ndarray:
    """All finite values, signed zeros and denormals among them: [3968, 16]."""
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    return values[np.isfinite(values)].reshape(-1, 16)


def through_parquet(table: pa.Table) -> pa.Table:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=1000)
    return pq.read_table(io.BytesIO(sink.getvalue()))


@pytest.mark.parametrize("first, stop", [(0, 3968), (0, 0), (5, 6), (990, 2010)])
def test_every_float16_comes_back_bit_by_bit_with_nulls_in_between_and_from_slices(first: int, stop: int) -> None:
    vector_ND = every_float16()
    vector_ND[::7, 3] = np.nan
    vector_ND[1::11, 0] = np.inf
    table = through_parquet(pa.table({"vector": as_vectors(vector_ND)}))
    assert table.schema.field("vector").type == schema.vector(16)
    found = from_vectors(table["vector"].slice(first, stop - first))
    null = ~np.isfinite(vector_ND[first:stop]).all(axis=1)
    assert found.shape == (stop - first, 16)
    np.testing.assert_array_equal(bits(found[~null]), bits(vector_ND[first:stop][~null]))
    assert np.isnan(found[null]).all()


def test_a_column_of_several_chunks_and_offsets_reads_as_the_whole() -> None:
    vector_ND = every_float16()[:100]
    column = as_vectors(vector_ND)
    pieces = pa.chunked_array([column.slice(0, 3), column.slice(3, 0), column.slice(3, 50), column.slice(53)])
    np.testing.assert_array_equal(bits(from_vectors(pieces)), bits(vector_ND))


@pytest.mark.parametrize("num_rows", [0, 3])
def test_a_column_without_any_vector_keeps_its_rows(num_rows: int) -> None:
    column = as_vectors(np.full((num_rows, 16), np.nan, np.float16))
    assert column.null_count == num_rows
    found = from_vectors(through_parquet(pa.table({"vector": column}))["vector"])
    assert found.shape == (num_rows, 16) and np.isnan(found).all()
