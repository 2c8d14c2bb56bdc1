"""Reads files that a source names or holds: below its folder only, of a bounded size, and never waiting for a pipe."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from react_ray.errors import StorageError
from react_ray.pairs.formats.suffixes import MAX_IMAGE_BYTES, SIGNATURE_BYTES
from react_ray.storage import Storage, open_arrow_file
from react_ray.uri import is_local

READ_THREADS = 16  # for S3, where each read waits for the network
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 1024  # of Linux, and of a key of S3


def path_below(name: str | None) -> str:
    """Returns a path below a folder, or "" if `name` leads elsewhere or cannot be a path."""
    path = posixpath.normpath(name) if name else ""
    parts = path.encode("utf-8", "surrogateescape").split(b"/")
    too_long = any(len(part) > MAX_NAME_BYTES for part in parts) or len(path) > MAX_PATH_BYTES
    return "" if too_long or "\0" in path or path.startswith("/") or parts[0] == b".." else path


def read_all(folder: Storage, names: Sequence[str | None]) -> list[bytes | None]:
    """Reads each file as `read_below`, several at a time where each read waits for the network."""
    if is_local(folder.uri):
        return [read_below(folder, name) for name in names]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        return list(pool.map(partial(read_below, folder), names))


def read_below(folder: Storage, name: str | None) -> bytes | None:
    """Reads a file, or None if there is none below the folder; raises StorageError if it exists and cannot be read."""
    path = path_below(name)
    if not path:
        return None
    if is_local(folder.uri):
        if not folder.exists(path):  # as of a pipe, a socket or a device, whose reading may never end
            return None
        too_large = os.path.getsize(posixpath.join(folder.uri, path)) > MAX_IMAGE_BYTES
        return None if too_large else folder.read(path)
    try:
        return folder.read(path)
    except StorageError:
        if folder.exists(path):
            raise
        return None


def head_of(uri: str) -> bytes:
    """Returns the first bytes of a file, by which its kind can be told; b"" if it cannot be read."""
    try:
        with open_arrow_file(uri) as file:
            return bytes(file.read(SIGNATURE_BYTES))
    except (StorageError, OSError):
        return b""


def printable(name: str) -> str:
    """Returns a file name as text: on Linux, a name is bytes that need not be UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
