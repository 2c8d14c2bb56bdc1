"""Reads Arrow IPC: files, such as Feather 2, and streams, such as Hugging Face's `*.arrow`.

A file is planned from the metadata of its batches and one narrow column; a stream has no index and is read through
once. Compressed and remote batches are read when a part needs them. Every batch is validated before it is used, because
offsets that point outside of its buffers would end the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from react_ray.errors import StorageError
from react_ray.pairs.column_types import is_text, with_bytes
from react_ray.pairs.formats.chunk import Chunk
from react_ray.pairs.formats.seen import Seen, num_blank, place
from react_ray.storage import open_arrow_file

FILE_MAGIC, FEATHER_1_MAGIC = b"ARROW1", b"FEA1"


@dataclass(frozen=True)
class Arrow:
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        if _is_file(uri):
            schema = pa.ipc.open_file(open_arrow_file(uri)).schema
            return schema, _batches_of_file(uri, schema, row_start, seen)
        with pa.ipc.open_stream(open_arrow_file(uri)) as reader:
            return reader.schema, _batches_of_stream(uri, row_start, seen)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        file = open_arrow_file(uri)
        if _is_file(uri):
            reader = pa.ipc.open_file(file)
            batches = [reader.get_batch(chunk.start) for chunk in chunks]
        else:
            with pa.ipc.open_stream(file) as stream:
                schema = stream.schema
            batches = []
            for chunk in chunks:
                file.seek(chunk.start)
                batches.append(pa.ipc.read_record_batch(pa.ipc.read_message(file), schema))
        return pa.Table.from_batches([_validated(batch) for batch in batches])


def _validated(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Raises ArrowInvalid if the batch cannot be read; text that is not UTF-8 is left to `conform`."""
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            values = column.dictionary
            values = values.view(with_bytes(values.type))
            column = pa.DictionaryArray.from_arrays(column.indices, values, safe=False)
        kind = with_bytes(column.type)
        (column if kind == column.type else column.view(kind)).validate(full=True)
    return batch


def _is_file(uri: str) -> bool:
    with open_arrow_file(uri) as file:
        begin = file.read_at(min(8, file.size()), 0)
    if begin.startswith(FEATHER_1_MAGIC):
        raise StorageError(f"cannot read {uri}: Feather of version 1; write it again as Parquet or Feather 2")
    return bool(begin.startswith(FILE_MAGIC))


def _batches_of_file(uri: str, schema: pa.Schema, row_start: int, seen: Seen) -> Iterator[Chunk]:
    """Reads the column without which a row has no use if it is text, or else the narrowest, to count rows."""
    required = schema.get_field_index(seen.required)
    is_url = required >= 0 and is_text(schema.field(required).type)
    read = required if is_url else min(range(len(schema)), key=lambda i: _width(schema.field(i).type), default=-1)
    options = pa.ipc.IpcReadOptions(included_fields=[] if read < 0 else [read])
    file = open_arrow_file(uri)
    reader = pa.ipc.open_file(file, options=options)
    for index in range(reader.num_record_batches):
        batch = reader.get_batch(index)
        batch.validate()
        rows = batch.num_rows
        if rows:
            _count_blank(batch, uri, index, seen)
            yield Chunk(uri, row_start, rows, file.size() // reader.num_record_batches, index)
            row_start += rows


def _batches_of_stream(uri: str, row_start: int, seen: Seen) -> Iterator[Chunk]:
    file = open_arrow_file(uri)
    reader = pa.ipc.open_stream(file)
    if any(pa.types.is_dictionary(field.type) for field in reader.schema):
        raise StorageError(
            f"cannot read {uri}: a stream with dictionaries; write it again as Parquet or as an Arrow file"
        )
    start = file.tell()
    for index, batch in enumerate(reader):
        batch.validate()
        if batch.num_rows:
            _count_blank(batch, uri, index, seen)
            yield Chunk(uri, row_start, batch.num_rows, file.tell() - start, start)
            row_start += batch.num_rows
        start = file.tell()


def _count_blank(batch: pa.RecordBatch, uri: str, index: int, seen: Seen) -> None:
    if seen.required in batch.schema.names:
        column = _validated(batch.select([seen.required])).column(0)
        if missing := num_blank(column):
            seen.bad_row(f"rows without {seen.required}", f"{place(uri)} batch {index}", missing)


def _width(kind: pa.DataType) -> int:
    try:
        return int(kind.bit_width)
    except ValueError:  # no fixed width: prefer text to bytes, which may be images
        return 1000 if pa.types.is_string(kind) else 2000
