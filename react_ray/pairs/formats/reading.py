"""Converts the errors that libraries raise for a damaged file to a StorageError that names the file."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from react_ray.errors import StorageError

DAMAGED = (pa.ArrowException, OSError, EOFError, zlib.error, tarfile.TarError, ValueError)


@contextmanager
def reading(uri: str) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise StorageError(f"cannot read {uri}: {error}; the file is damaged or has changed: write it again") from error
