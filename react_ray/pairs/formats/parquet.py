"""Reads Parquet: only the footer to plan a file, and only the row groups that a part overlaps to read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from react_ray.errors import StorageError
from react_ray.pairs.formats.chunk import Chunk
from react_ray.pairs.formats.seen import Seen, num_blank, place
from react_ray.pairs.image_cells import holds_bytes
from react_ray.storage import open_parquet

BATCH_ROWS = 512  # decoded at once: half a GB of rows of 1 MB before the bound is looked at; 256 take twice as long
MAX_REPEATED_BYTES, MAX_REPEATED = 256 << 20, 16  # decoded bytes, and times what is stored: 2,000 rows may share a text
MAX_GROUP_ROWS = 1 << 31  # a damaged footer may claim any number


@dataclass(frozen=True)
class Parquet:
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        file = open_parquet(uri)
        return file.schema_arrow, _row_groups(uri, file.metadata, row_start, seen)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        file = open_parquet(uri)
        groups = [chunk.start for chunk in chunks]
        stored = sum(chunk.num_bytes for chunk in chunks)
        batches: list[pa.RecordBatch] = []
        num_bytes = 0
        for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns.names):
            batches.append(batch)
            num_bytes += batch.nbytes
            if num_bytes > max(MAX_REPEATED_BYTES, MAX_REPEATED * stored):
                raise StorageError(
                    f"cannot read {uri}: {stored:,} bytes of row groups become more than {num_bytes:,} in memory, "
                    "because they repeat few long values; write smaller row groups, or leave such columns out"
                )
        return _combined(pa.Table.from_batches(batches, None if batches else file.schema_arrow))


def range_of(uri: str, column: str) -> tuple[int, int] | None:
    """Returns the least and the largest value of a column of integers; None if the footer does not tell."""
    metadata = open_parquet(uri).metadata
    at = next((i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column), -1)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)] if at >= 0 else []
    told = [group.column(at).statistics for group in groups if group.num_rows]
    told = [one for one in told if one is None or one.num_values]  # a group of nulls has no values
    if not told or not all(one is not None and one.has_min_max for one in told):
        return None
    return min(one.min for one in told), max(one.max for one in told)


def _combined(table: pa.Table) -> pa.Table:
    """Makes each column one chunk, so that what is stored does not depend on BATCH_ROWS; images, which are stored one
    by one, are not copied.
    """
    columns = (
        column if column.num_chunks < 2 or holds_bytes(column.type) else pa.chunked_array([column.combine_chunks()])
        for column in table.columns
    )
    return pa.table(list(columns), schema=table.schema)


def _row_groups(uri: str, metadata: pq.FileMetaData, row_start: int, seen: Seen) -> Iterator[Chunk]:
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)] if seen.required else []
    required = paths.index(seen.required) if seen.required in paths else -1
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if not 0 <= group.num_rows <= MAX_GROUP_ROWS:
            raise StorageError(f"cannot read {uri}: row group {index} claims {group.num_rows:,} rows; write it again")
        if not group.num_rows:
            continue
        if required >= 0 and (missing := _missing(uri, index, group, required, seen.required)):
            seen.bad_row(f"rows without {seen.required}", f"{place(uri)} row group {index}", missing)
        yield Chunk(uri, row_start, group.num_rows, group.total_byte_size, index)
        row_start += group.num_rows


def _missing(uri: str, index: int, group: pq.RowGroupMetaData, at: int, name: str) -> int:
    """Returns the rows of a row group that lack a column: nulls by the footer, and blank texts, which are read only if
    the footer says that the least value begins with a blank.
    """
    statistics = group.column(at).statistics
    nulls = statistics.null_count if statistics is not None and statistics.has_null_count else 0
    least = statistics.min_raw if statistics is not None and statistics.has_min_max else None  # it may be no UTF-8
    if isinstance(least, bytes) and least[:1] <= b" ":
        return num_blank(open_parquet(uri).read_row_group(index, columns=[name])[name])
    return min(nulls, group.num_rows)
