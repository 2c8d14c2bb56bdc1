"""LocalStorage: files of this machine, or of a file system that all machines mount."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from react_ray.errors import StorageError
from react_ray.storage.base import Storage, open_checked

T = TypeVar("T")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk or a quota is full, or a file too large
UMASK = os.umask(0)
os.umask(UMASK)  # the umask can only be read by setting it


class LocalStorage(Storage):
    def _path(self, path: str) -> Path:
        return Path(self.uri, path) if path else Path(self.uri)

    def _try(self, verb: str, path: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except OSError as error:
            reason = error.strerror or str(error)
            hint = "make room there" if error.errno in FULL else "check the path and its permissions"
            raise StorageError(f"cannot {verb} {self._path(path)}: {reason}; {hint}") from error

    def read(self, path: str) -> bytes:
        return self._try("read", path, lambda: self._path(path).read_bytes())

    def write(self, path: str, data: bytes) -> None:
        def action() -> None:
            with self.writing(path) as file:
                file.write(data)

        self._try("write", path, action)

    @contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        target = self._path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".writing-", delete=False) as file:
            try:
                yield cast(BinaryIO, file)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o666 & ~UMASK)
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise

    def exists(self, path: str) -> bool:
        return self._path(path).is_file()

    def list(self, prefix: str = "") -> list[str]:
        root = self._path(prefix)
        found = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".writing-"))
        return sorted(str(p.relative_to(self.uri)) for p in found)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return self._try("list", prefix, lambda: {path: self._path(path).stat().st_size for path in self.list(prefix)})

    def delete(self, path: str) -> None:
        self._try("delete", path, lambda: self._path(path).unlink(missing_ok=True))

    def delete_all(self, prefix: str = "") -> None:
        super().delete_all(prefix)
        # The folders remain, and in them the temporary files of killed writers.
        shutil.rmtree(self._path(prefix), ignore_errors=True)

    def local_file(self, path: str) -> str:
        if not self.exists(path):
            raise StorageError(f"cannot read {self._path(path)}: no such file; check the path")
        return str(self._path(path))

    def parquet(self, path: str) -> pq.ParquetFile:
        source = self.local_file(path)
        return open_checked(source, lambda: pq.ParquetFile(source, page_checksum_verification=True))

    def stream(self, path: str) -> BinaryIO:
        return self._try("read", path, lambda: self._path(path).open("rb"))

    def arrow_file(self, path: str) -> pa.NativeFile:
        return self._try("read", path, lambda: pa.memory_map(str(self._path(path))))
