"""What a part's file holds: every column is compressed, whatever it is nested in, but for vectors."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from react_ray.parquet import parquet_bytes, read_rows
from react_ray.schema import MATCH
from react_ray.vectors import as_vectors


def test_all_but_vectors_is_compressed_and_every_kind_of_column_comes_back() -> None:
    rows = 300
    match = {"class_id": 1, "prompt": "a photo", "score": 0.5, "key": "image"}
    table = pa.table(
        {
            "pair_id": range(rows),
            "caption": pa.array(["a caption"] * rows),
            "matches": pa.array([[match] * 3] * rows, pa.list_(MATCH)),
            "tags": pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int32())),
            "sides": pa.array([[1.0, 2.0]] * rows, pa.list_(pa.float32(), 2)),
            "labels": pa.array([["x"]] * rows, pa.large_list(pa.string())),
            "of": pa.array(["few"] * rows).dictionary_encode(),
            "image": as_vectors(np.random.default_rng(0).standard_normal((rows, 64)).astype(np.float16)),
        }
    )
    file = pq.ParquetFile(io.BytesIO(parquet_bytes(table)), page_checksum_verification=True)
    group = file.metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert {column.path_in_schema for column in columns if column.compression != "ZSTD"} == {"image"}
    assert file.read().to_pydict() == table.to_pydict()
    assert parquet_bytes(table) == parquet_bytes(table)


def test_a_row_group_has_at_most_4_mb_of_images_and_some_rows_are_read_without_the_others() -> None:
    images = [bytes([row]) * 100_000 for row in range(100)]
    file = pq.ParquetFile(io.BytesIO(parquet_bytes(pa.table({"id": range(100), "image": images}))))
    assert [file.metadata.row_group(group).num_rows for group in range(4)] == [32, 32, 32, 4]
    for start, count in ((0, 100), (31, 2), (32, 32), (99, 1), (40, 50)):
        table = read_rows(file, start, count, ["id", "image"])
        assert table["id"].to_pylist() == list(range(start, start + count))
        assert [image[0] for image in table["image"].to_pylist()] == table["id"].to_pylist()
    small = pq.ParquetFile(io.BytesIO(parquet_bytes(pa.table({"image": [b"x" * 1000] * 4000}))))
    assert small.metadata.num_row_groups == 1
    one = pq.ParquetFile(io.BytesIO(parquet_bytes(pa.table({"image": [b"x" * (5 << 20)] * 2}))))
    assert one.metadata.num_row_groups == 2, "an image may be larger than a group"
