"""Converts whatever a format's library raises while it reads to a StorageError of one line that names the file.

Libraries raise many things for bytes that they did not expect (RecursionError, struct.error, NotImplementedError,
MemoryError, ...), so everything is taken for damage that is not an error of ours, nor of a request to S3.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from react_ray.errors import ReactRayError, StorageError
from react_ray.storage.base import OF_S3

SAY_WHAT_IS_WRONG = (pa.ArrowException, OSError, EOFError, zlib.error, tarfile.TarError, ValueError)
MAX_CHARACTERS = 300  # of a library's message


@contextmanager
def reading(uri: str) -> Iterator[None]:
    try:
        yield
    except ReactRayError:
        raise
    except Exception as error:
        if OF_S3 in str(error):  # a request in the middle of a file; the file itself may be whole
            raise StorageError(
                f"cannot read {uri}: {reason_of(error)}; check the bucket, AWS credentials and AWS_ENDPOINT_URL"
            ) from error
        raise StorageError(
            f"cannot read {uri}: {reason_of(error)}; the file is damaged or has changed: write it again"
        ) from error


def reason_of(error: Exception) -> str:
    """Returns one line; it begins with the exception's name where the message alone may say nothing."""
    text = " ".join(str(error).split())[:MAX_CHARACTERS]
    if text and isinstance(error, SAY_WHAT_IS_WRONG):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
