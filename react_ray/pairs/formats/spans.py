"""Bytes of plain and of gzipped files, alike: a stream to plan from, a span to read a part from.

A span of a .gz is found by unpacking all that lies before it. Parts are read in their order, so the open file of the
last span goes on from there: each process unpacks a file about once, and none is ever unpacked whole into memory.
Next: delimited.py.
"""

from __future__ import annotations

import gzip
import threading
from functools import lru_cache
from typing import BinaryIO, cast

from react_ray.errors import StorageError
from react_ray.storage import open_stream, read_range

GZIPPED = (".gz", ".tgz")
OPEN_FILES = 2  # kept open by a process: the one that it reads, and the next
LOCK = threading.Lock()


def open_bytes(uri: str) -> BinaryIO:
    """The (unpacked) bytes from the beginning, to plan: what is still open of an older file of this name is let go."""
    if not uri.endswith(GZIPPED):
        return open_stream(uri)
    _open_gzip.cache_clear()
    return _unpacked(uri)


def read_span(uri: str, start: int, length: int) -> bytes:
    """(Unpacked) bytes; StorageError if there are fewer."""
    if not uri.endswith(GZIPPED):
        return read_range(uri, start, length)
    with LOCK:
        file = _open_gzip(uri)
        try:
            file.seek(start)
            data = file.read(length)
        except Exception:
            _open_gzip.cache_clear()
            raise
    if len(data) < length:
        raise StorageError(
            f"cannot read {uri}: it ends before byte {start + length}; it has changed, run the stage again"
        )
    return data


@lru_cache(maxsize=OPEN_FILES)
def _open_gzip(uri: str) -> BinaryIO:
    return _unpacked(uri)


def _unpacked(uri: str) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=open_stream(uri)))
