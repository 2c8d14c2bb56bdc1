"""Reads Parquet: only the footer to plan a file, and only the row groups that a part overlaps to read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from react_ray.pairs.formats.chunk import Chunk
from react_ray.pairs.formats.seen import Seen
from react_ray.storage import open_parquet


@dataclass(frozen=True)
class Parquet:
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        file = open_parquet(uri)
        return file.schema_arrow, _row_groups(uri, file.metadata, row_start)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        return open_parquet(uri).read_row_groups([chunk.start for chunk in chunks], columns=columns.names)


def _row_groups(uri: str, metadata: pq.FileMetaData, row_start: int) -> Iterator[Chunk]:
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if group.num_rows:
            yield Chunk(uri, row_start, group.num_rows, group.total_byte_size, index)
            row_start += group.num_rows
