"""Serialises a table to the bytes of a Parquet file, the form of every part of an artifact."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_ROWS = 1 << 16  # most rows of a row group
GROUP_BYTES = 4 << 20  # of images in a row group, about: what a training reads at once


def group_rows(images: pa.Table) -> int:
    """Returns how many rows of a table with a column `image` make one row group: a power of two, so that groups of two
    tables of the same rows are parts of each other."""
    num_bytes = images["image"].nbytes
    if num_bytes <= GROUP_BYTES:
        return GROUP_ROWS
    return 1 << max(0, (GROUP_BYTES * images.num_rows // num_bytes).bit_length() - 1)


def parquet_bytes(table: pa.Table, rows_per_group: int = 0) -> bytes:
    """Returns a Parquet file; equal tables give equal bytes.

    rows_per_group: 0 = by `group_rows` where there are images, or else GROUP_ROWS.

    Columns are compressed with zstd level 1, which helps captions and costs little for images, which are compressed
    already. Vectors stay uncompressed: zstd saves 8 % of their size and takes half as much time again
    (tests/benchmark/bench_vectors.py). Text columns use dictionaries, and pages carry a checksum.
    """
    sink = io.BytesIO()
    has_images = "image" in table.column_names and pa.types.is_binary(table.schema.field("image").type)
    text = [
        field.name for field in table.schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    leaves = {path: kind for field in table.schema for path, kind in _leaves(field.name, field.type)}
    zstd = [path for path, kind in leaves.items() if not pa.types.is_fixed_size_binary(kind)]
    pq.write_table(
        table,
        sink,
        use_dictionary=text,
        compression=dict.fromkeys(leaves, "none") | dict.fromkeys(zstd, "zstd"),
        compression_level=dict.fromkeys(zstd, 1),
        row_group_size=rows_per_group or (group_rows(table) if has_images else GROUP_ROWS),
        write_page_checksum=True,
    )
    return sink.getvalue()


def read_rows(file: pq.ParquetFile, start: int, count: int, columns: list[str]) -> pa.Table:
    """Returns some rows of a Parquet file; only the row groups that hold them are read."""
    groups: list[int] = []
    begin = at = 0
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if at < start + count and at + rows > start:
            begin = at if not groups else begin
            groups.append(group)
        at += rows
    return file.read_row_groups(groups, columns=columns).slice(start - begin, count)


FOOTER_END = 8  # bytes behind the footer: its length, and PAR1


def footer(data: bytes) -> bytes:
    """Returns the footer of a whole Parquet file: schema, places of the pages, statistics. No checksum of the format
    covers it, as one covers each page."""
    length = int.from_bytes(data[-FOOTER_END : 4 - FOOTER_END], "little")
    return data[-FOOTER_END - length : -FOOTER_END]


def footer_sha256(metadata: pq.FileMetaData) -> str:
    """Returns the sha256 of a footer that was read, without reading it again: pyarrow writes it as it was (12 us for 3
    kB). A version of pyarrow that writes it otherwise gives another value."""
    sink = io.BytesIO()
    metadata.write_metadata_file(sink)  # PAR1, the footer, its end
    return hashlib.sha256(footer(sink.getvalue())).hexdigest()


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Yields the (path, type) of each Parquet column that stores one column of a table."""
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _leaves(f"{path}.{kind.field(number).name}", kind.field(number).type)
    elif pa.types.is_map(kind):
        yield from _leaves(f"{path}.key_value.key", kind.key_type)
        yield from _leaves(f"{path}.key_value.value", kind.item_type)
    elif hasattr(kind, "value_type") and not pa.types.is_dictionary(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind
