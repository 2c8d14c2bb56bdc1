"""check_plain: refuses compressed Arrow streams before they are read, because 16 kB of one may hold gigabytes.

pyarrow does not say whether a message is compressed, so this is read from its flatbuffer, the field `compression` of
RecordBatch (https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format).
"""

from __future__ import annotations

import struct

import pyarrow as pa

HEADER, DATA, COMPRESSION = 2, 1, 3  # fields of Message, of DictionaryBatch, and of RecordBatch


def check_plain(body: bytes) -> None:
    """body: an Arrow IPC stream. ArrowInvalid if it is none, or if a batch in it is compressed."""
    for message in pa.ipc.MessageReader.open_stream(body):
        if message.type not in ("record batch", "dictionary"):
            continue
        data = message.metadata.to_pybytes()
        try:
            batch = _table(data, _root(data), HEADER)
            if message.type == "dictionary":
                batch = _table(data, batch, DATA)
            is_compressed = bool(_slot(data, batch, COMPRESSION))
        except struct.error as error:
            raise pa.ArrowInvalid("a message is cut off") from error
        if is_compressed:
            raise pa.ArrowInvalid("it is compressed, which is not read here")


def _root(data: bytes) -> int:
    return int(struct.unpack_from("<I", data)[0])


def _slot(data: bytes, table: int, field: int) -> int:
    """The offset of a field in its table; 0 = it is not there."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    there = 4 + 2 * field < struct.unpack_from("<H", data, vtable)[0]
    return int(struct.unpack_from("<H", data, vtable + 4 + 2 * field)[0]) if there else 0


def _table(data: bytes, table: int, field: int) -> int:
    place = table + _slot(data, table, field)
    return place + int(struct.unpack_from("<I", data, place)[0])
