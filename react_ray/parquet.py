"""A table as the bytes of a Parquet file. Next: artifact.py, whose parts are such files."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq


def parquet_bytes(table: pa.Table) -> bytes:
    """Deterministic bytes; images are compressed already, so zstd level 1 costs little and helps captions.
    Dictionaries are for text: of vectors and images they would be tried in vain. Pages carry a checksum.
    """
    sink = io.BytesIO()
    text = [field.name for field in table.schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    pq.write_table(table, sink, use_dictionary=text, compression="zstd", compression_level=1, row_group_size=1 << 16, write_page_checksum=True)
    return sink.getvalue()
