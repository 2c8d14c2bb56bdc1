"""Defines the interface of every storage; local.py and s3.py implement it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from react_ray.errors import StorageError
from react_ray.uri import absolute, join

T = TypeVar("T")
OF_S3 = "AWS Error"  # begins what pyarrow says of a request that failed


class Storage:
    """A place that holds files, like a directory. Paths are relative and use `/`."""

    def __init__(self, uri: str) -> None:
        self.uri = absolute(uri)

    def read(self, path: str) -> bytes:
        raise NotImplementedError

    def write(self, path: str, data: bytes) -> None:
        raise NotImplementedError

    def swap(self, path: str, before: bytes | None, after: bytes) -> bool:
        """Writes a small file if it holds `before` (None: if it does not exist); False, and no change, if it does not.

        Of two callers at once, one gets True.
        """
        raise NotImplementedError

    @contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        """Opens a file for data too large for memory; the file appears, complete, when the block ends without error."""
        raise NotImplementedError
        yield

    def exists(self, path: str) -> bool:
        raise NotImplementedError

    def unfinished_writes(self) -> list[str]:
        """Lists the temporary files of writers that were killed or are at work; an object store has none."""
        return []

    def list(self, prefix: str = "") -> list[str]:
        """Lists the paths of all files below `prefix` (a folder), sorted, relative to this storage."""
        raise NotImplementedError

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """As `list`, with the size of each file in bytes."""
        raise NotImplementedError

    def files(self) -> tuple[dict[str, int], Sequence[str]]:
        """Returns the sizes of all files, links to folders followed, and the paths of what is there and no file.

        Unlike `list`, it is for folders of users, which are only read.
        """
        return self.sizes(), []

    def versions(self, path: str = "") -> dict[str, str]:
        """Returns, for the file at `path` or for each file below it, a text that differs once the file was written
        again; {} if nothing is there. No contents are read."""
        raise NotImplementedError

    def delete(self, path: str) -> None:
        raise NotImplementedError

    def delete_all(self, prefix: str = "") -> None:
        for path in self.list(prefix):
            self.delete(path)

    def sweep(self) -> None:
        """Deletes what killed writers left below this place; the files of living writers stay."""

    def local_file(self, path: str) -> str:
        """Returns a local path with the file's bytes: the file itself, or a copy in the cache directory."""
        raise NotImplementedError

    def parquet(self, path: str) -> pq.ParquetFile:
        raise NotImplementedError

    def stream(self, path: str) -> BinaryIO:
        """Opens a file for sequential reading; it can also seek."""
        raise NotImplementedError

    def arrow_file(self, path: str) -> pa.NativeFile:
        """Opens a file for random access, as a memory map or by ranges of an object; only requested bytes are read."""
        raise NotImplementedError

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """Returns exactly `length` bytes; raises StorageError if the file ends before."""

        def action() -> bytes:
            with self.arrow_file(path) as file:
                return bytes(file.read_at(length, start))

        data = self._try("read", path, action)
        if len(data) < length:
            raise StorageError(
                f"cannot read {self.uri}/{path}: it ends before byte {start + length}; it has changed or is cut off, "
                "write it again"
            )
        return data

    def _try(self, verb: str, path: str, action: Callable[[], T]) -> T:
        raise NotImplementedError

    def at(self, *parts: str) -> Storage:
        return type(self)(join(self.uri, *parts))


def open_checked(name: str, action: Callable[[], pq.ParquetFile]) -> pq.ParquetFile:
    try:
        return action()
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        if OF_S3 in str(error):
            raise
        raise StorageError(
            f"cannot read {name}: not a Parquet file ({error}); write it again or name another file"
        ) from error
