"""Serialises a table to the bytes of a Parquet file, the form of every part of an artifact."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq


def parquet_bytes(table: pa.Table) -> bytes:
    """Returns a Parquet file; equal tables give equal bytes.

    Columns are compressed with zstd level 1, which helps captions and costs little for images, which are compressed
    already. Vectors stay uncompressed: zstd saves 8 % of their size and takes half as much time again
    (tests/benchmark/bench_vectors.py). Text columns use dictionaries, and pages carry a checksum.
    """
    sink = io.BytesIO()
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
        row_group_size=1 << 16,
        write_page_checksum=True,
    )
    return sink.getvalue()


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
