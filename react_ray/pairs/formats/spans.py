"""Reads the bytes of plain and gzipped files: all of them to plan a file, or a span of them to read a part.

A span of a .gz is reached by unpacking everything before it. Parts are read in order, and the file stays open between
spans, so each process unpacks a file about once. No file is unpacked into memory as a whole.
"""

from __future__ import annotations

import gzip
import threading
from functools import lru_cache
from typing import BinaryIO, cast

from react_ray.errors import StorageError
from react_ray.storage import open_stream, read_range

GZIPPED = (".gz", ".tgz")
OPEN_FILES = 2  # kept open per process: the file being read, and the next
LOCK = threading.Lock()


def open_bytes(uri: str) -> BinaryIO:
    """Opens the (unpacked) bytes at their beginning, to plan; closes a file of this name that is still open from
    before.
    """
    if not uri.endswith(GZIPPED):
        return open_stream(uri)
    _open_gzip.cache_clear()
    return _unpacked(uri)


def read_span(uri: str, start: int, length: int) -> bytes:
    """Returns a span of the (unpacked) bytes. Raises StorageError if the file ends before."""
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
