"""ShardCache: copies of files of a remote storage in a directory of this node, for all processes of the node.

Takes a storage, a name and the SHA-256 that its receipt states; gives a local path. A file is fetched by one process
while the others wait, hashed while it is written, and stored under its SHA-256: a file of the directory is right, and
is never hashed again. Files of a local storage stay where they are; that they were hashed is remembered until they are
written again.

The least recently used files make room for new ones, but none that a process has open: it holds a lock on what it uses
until it ends, or until `close`. A directory that cannot be used costs time, not the search: a warning says why, and the
storage's own copy is used instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from react_ray.errors import ArtifactCorrupt, StorageError
from react_ray.storage import Storage
from react_ray.storage.local import LocalStorage

T = TypeVar("T")
logger = logging.getLogger(__name__)
PIECE_BYTES = 8 << 20
SHARD, VERIFIED, LOCK = "shard-", "verified-", "lock-"  # how the names of the directory begin


class ShardCache:
    """`ShardCache(directory, max_bytes).path(storage, name, sha256)`. Processes and threads of a node may share a
    directory."""

    def __init__(self, directory: str = "", max_bytes: int = 0) -> None:
        """directory: made if it is not there, and then only this user may read it; "" = one below the temporary
        directory. max_bytes: of all files in it; 0 = as many as the disk holds."""
        self.directory, self.max_bytes = directory, max_bytes
        self._used: dict[Path, BinaryIO] = {}
        self._said = False

    def path(self, storage: Storage, name: str, sha256: str) -> str:
        """Returns a local path of this file. ArtifactCorrupt if it has another SHA-256; StorageError if it cannot be
        read."""
        try:
            folder = self._folder()
            if isinstance(storage, LocalStorage):
                return self._in_place(folder, storage, name, sha256)
            return self._copy(folder, storage, name, sha256)
        except _Unreadable as error:
            raise error.cause from None
        except _Unusable as error:
            self._say(str(error))
        except StorageError as error:  # of the folder
            self._say(str(error))
        except OSError as error:
            self._say(error.strerror or str(error))
        path = storage.local_file(name)
        _check(storage, name, sha256, _sha256_of(path))
        return path

    def close(self) -> None:
        """Lets other processes delete the files that this one used."""
        for file in self._used.values():
            file.close()
        self._used.clear()

    def _folder(self) -> Path:
        """Returns a folder of this user, because the files in it are trusted."""
        folder = Path(self.directory or Path(tempfile.gettempdir(), f"react_ray-shards-{os.getuid()}"))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise _Unusable("it belongs to somebody else")
        return folder

    def _in_place(self, folder: Path, storage: LocalStorage, name: str, sha256: str) -> str:
        path = storage.local_file(name)
        version = f"{path} {storage.versions(name)[name]} {sha256}"
        mark = folder / f"{VERIFIED}{hashlib.sha256(version.encode()).hexdigest()}"
        if not mark.exists():
            _check(storage, name, sha256, _sha256_of(path))
            try:
                mark.touch(mode=0o600)
            except OSError as error:
                self._say(error.strerror or str(error))
        return path

    def _copy(self, folder: Path, storage: Storage, name: str, sha256: str) -> str:
        target = folder / f"{SHARD}{sha256}{Path(name).suffix}"
        while not self._use(target):
            with _locked(folder / f"{LOCK}{sha256[:2]}"):
                if not target.exists():  # or another process has fetched it meanwhile
                    self._fetch(folder, storage, name, sha256, target)
        return str(target)

    def _use(self, target: Path) -> bool:
        """Locks a file against deletion and marks it as the last used; False if it is not there."""
        if target not in self._used:
            try:
                file = target.open("rb")
            except FileNotFoundError:
                return False
            fcntl.flock(file, fcntl.LOCK_SH)
            if not os.fstat(file.fileno()).st_nlink:  # deleted before it was locked
                file.close()
                return False
            self._used[target] = file
        now = time.time_ns()  # exact: the clock of the file system ticks every few milliseconds
        os.utime(target, ns=(now, now))
        return True

    def _fetch(self, folder: Path, storage: Storage, name: str, sha256: str, target: Path) -> None:
        here, checksum = LocalStorage(str(folder)), hashlib.sha256()
        here.sweep()
        with ExitStack() as opened:
            source = _readable(lambda: opened.enter_context(storage.stream(name)))
            size = _readable(lambda: source.seek(0, os.SEEK_END))
            source.seek(0)
            with _locked(folder / f"{LOCK}room"):
                _make_room(folder, size, self.max_bytes)
                file = opened.enter_context(here.writing(target.name))
                if size:
                    os.posix_fallocate(file.fileno(), 0, size)  # so that others see how much room is left
            while piece := _readable(lambda: source.read(PIECE_BYTES)):
                checksum.update(piece)
                file.write(piece)
            _check(storage, name, sha256, checksum.hexdigest())

    def _say(self, reason: str) -> None:
        if not self._said:
            self._said = True
            logger.warning(
                "the cache of shards in %s cannot be used (%s), so that shards are copied or hashed again each time; "
                "make room there, or name another directory in cluster.shard_cache_dir",
                self.directory or tempfile.gettempdir(),
                reason,
            )


class _Unusable(Exception):
    """Says why a file cannot be in the cache."""


class _Unreadable(Exception):
    """Holds the error of the storage that a file is fetched from."""

    def __init__(self, cause: StorageError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _readable(action: Callable[[], T]) -> T:
    try:
        return action()
    except StorageError as error:
        raise _Unreadable(error) from error


def _make_room(folder: Path, size: int, max_bytes: int) -> None:
    """Deletes the least recently used files until so many bytes fit."""
    found = _files(folder)
    total = sum(stat.st_size for _, stat in found)

    def fits() -> bool:
        return (not max_bytes or total + size <= max_bytes) and shutil.disk_usage(folder).free >= size

    shards = [(stat.st_mtime_ns, stat.st_size, path) for path, stat in found if path.name.startswith(SHARD)]
    for _, num_bytes, path in sorted(shards):
        if fits():
            return
        if _deleted(path):
            total -= num_bytes
    if not fits():
        raise _Unusable(f"a shard of {size / 2**30:.1f} GB does not fit beside those that are in use")


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    while True:
        with suppress(FileNotFoundError):  # another process has finished a file, which has another name now
            return [(path, path.stat()) for path in folder.iterdir()]


def _deleted(path: Path) -> bool:
    """Deletes a file unless a process uses it."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink()
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256_of(path: str) -> str:
    checksum = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            checksum.update(piece)
    return checksum.hexdigest()


def _check(storage: Storage, name: str, wanted: str, found: str) -> None:
    if found != wanted:
        raise ArtifactCorrupt(f"{storage.uri}/{name} has a wrong checksum; delete the index and build it again")
