"""LocalStorage: files of this machine, or of a file system that all machines mount."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from react_ray.errors import StorageError
from react_ray.storage.base import Storage, open_checked
from react_ray.storage.walk import WRITING, walk

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

    def swap(self, path: str, before: bytes | None, after: bytes) -> bool:
        def action() -> bool:
            target = self._path(path)
            if before is None:
                target.parent.mkdir(parents=True, exist_ok=True)
            elif not target.exists():
                return False
            with _locked(target.parent):
                found = target.read_bytes() if target.exists() else None
                if found != before:
                    return False
                self.write(path, after)
                return True

        return self._try("write", path, action)

    @contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        target = self._path(path)
        file = self._try("write", path, lambda: _temporary(target.parent))
        try:
            yield file
            self._try("write", path, lambda: _finish(file, target))
        except BaseException as error:
            with suppress(OSError):  # what is still in its buffer finds no room either
                file.close()
            Path(file.name).unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
                self._try("write", path, partial(_raise, error))
            raise
        finally:
            file.close()

    def exists(self, path: str) -> bool:
        return self._path(path).is_file()

    def unfinished_writes(self) -> list[str]:
        return sorted(str(path.relative_to(self.uri)) for path in self._path("").rglob(f"{WRITING}*"))

    def list(self, prefix: str = "") -> list[str]:
        root = self._path(prefix)
        found = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith(WRITING))
        return sorted(str(p.relative_to(self.uri)) for p in found)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return self._try("list", prefix, lambda: {path: self._path(path).stat().st_size for path in self.list(prefix)})

    def files(self) -> tuple[dict[str, int], Sequence[str]]:
        return self._try("list", "", lambda: walk(self.uri))

    def versions(self, path: str = "") -> dict[str, str]:
        """By size, time of the contents, and time of the inode, which also tells of a copy that kept the first two."""
        root = self._path(path)

        def version(file: Path) -> str:
            found = file.stat()
            return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"

        def action() -> dict[str, str]:
            if root.is_file():
                return {path: version(root)}
            below = walk(str(root))[0]
            return {f"{path}/{name}".lstrip("/"): version(root / name) for name in below}

        return self._try("list", path, action)

    def delete(self, path: str) -> None:
        self._try("delete", path, lambda: self._path(path).unlink(missing_ok=True))

    def delete_all(self, prefix: str = "") -> None:
        super().delete_all(prefix)
        # The folders remain, and in them the temporary files of killed writers.
        shutil.rmtree(self._path(prefix), ignore_errors=True)

    def sweep(self) -> None:
        for folder, _, names in os.walk(self.uri):
            for name in names:
                if name.startswith(WRITING):
                    _unlink_if_dead(os.path.join(folder, name))

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


def _temporary(folder: Path) -> BinaryIO:
    """A new file that its writer has locked: the lock ends with the process, and `sweep` deletes what is not locked."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        file = tempfile.NamedTemporaryFile(dir=folder, prefix=WRITING, delete=False)  # noqa: SIM115
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        if os.path.exists(file.name):
            return cast(BinaryIO, file)
        file.close()  # it was swept before it was locked


def _finish(file: BinaryIO, target: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    os.chmod(file.name, 0o666 & ~UMASK)
    os.replace(file.name, target)


def _unlink_if_dead(path: str) -> None:
    with suppress(OSError), open(path, "rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time, as far as the file system has locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _raise(error: OSError) -> None:
    raise error
