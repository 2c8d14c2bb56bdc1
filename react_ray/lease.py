"""Lease: while one command writes below a root, a second command is told so instead of doing the same work twice.

A root is the `out` or the `database` of a recipe. Its lease is a small file there, written only if nobody else's is
there, and renewed every BEAT_S by its holder. The lease of a dead holder is taken over: at once if the holder ran on
this machine, and otherwise when EXPIRES_S have passed without a renewal, counted by the clock of this machine alone.

`leases(...)` names the roots of a command. The code that is about to write calls `take`, so a command that only reads
a finished database needs no lease of it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace

import psutil

from react_ray.errors import ArtifactCorrupt, InUse, StorageError
from react_ray.metadata import parse_json, shaped, shortened
from react_ray.progress import say
from react_ray.storage import Storage, absolute, open_storage

logger = logging.getLogger(__name__)
FILE = ".react_ray-lease"
BEAT_S = 15.0
EXPIRES_S = 60.0
LOOK_S = 1.0  # between two looks whether a lease was renewed
SAME_START_S = 2.0  # the same process reports its start with less difference than this

_command: Leases | None = None  # of the command that this process runs


def take(uri: str) -> None:
    """Call this before anything below `uri` is written. InUse if another command writes there.

    Without `leases` around it, as in a program that calls the stages itself, it does nothing.
    """
    if _command is not None:
        _command.take(absolute(uri))


def give_back(uri: str) -> None:
    """The root `uri` is finished; a command that writes there need not wait for the end of this one."""
    if _command is not None:
        _command.give_back(absolute(uri))


@contextmanager
def leases(verb: str, roots: list[str], lost: Callable[[str], None]) -> Iterator[None]:
    """Gives back at its end all leases that were taken in it. One at a time in a process.

    lost: called in another thread, with one line for the user, when somebody else has taken a lease of ours over.
    """
    global _command
    assert _command is None
    _command = Leases(verb, [absolute(root) for root in roots], lost)
    try:
        yield
    finally:
        for root in list(_command.held):
            with suppress(StorageError):
                _command.give_back(root)
        _command = None


class Leases:
    """The leases of one command, by root."""

    def __init__(self, verb: str, roots: list[str], lost: Callable[[str], None]) -> None:
        self._verb, self._roots, self._lost = verb, roots, lost
        self.held: dict[str, Lease] = {}

    def take(self, uri: str) -> None:
        within = [root for root in self._roots if uri == root or uri.startswith(f"{root.rstrip('/')}/")]
        root = max(within, key=len, default="")
        if root and root not in self.held:
            self.held[root] = Lease(open_storage(root), _holder(self._verb), self._lost)

    def give_back(self, root: str) -> None:
        if root in self.held:
            self.held.pop(root).end()


def holder_of(uri: str) -> tuple[Holder, bool | None] | None:
    """Who has the lease of the root `uri`, and whether its process lives; None if nobody has it.

    Whether it lives is None for a holder on another machine: only the renewals of its lease would tell, after a while.
    """
    storage = open_storage(uri)
    if not storage.exists(FILE):
        return None
    try:
        holder = _parsed(storage.read(FILE))
    except StorageError:  # it has ended in this moment
        return None
    return holder, _runs(holder) or False if holder.machine == _machine() else None


@dataclass(frozen=True)
class Holder:
    """Who writes. All of it is in the file."""

    verb: str
    host: str
    pid: int
    machine: str  # the boot of a machine, and in it the container, within which a pid means one process
    started: float  # of the process, so that another process of the same pid is not taken for it
    since: str
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    beats: int = 0

    def __str__(self) -> str:
        if self == NOBODY:
            return f"{FILE} does not say who writes there"
        return shortened(
            f"`react-ray {self.verb}` (process {self.pid} on {self.host}) writes there since {self.since}", 300
        )


NOBODY = Holder("", "", 0, "", 0.0, "", name="")  # of a file that says nothing, as after a crash of its disk


class Lease:
    """One lease, renewed by a thread until `end`. InUse if a living command holds it."""

    def __init__(self, storage: Storage, holder: Holder, lost: Callable[[str], None]) -> None:
        self._storage, self._lost = storage, lost
        self._mine = holder
        self._over = threading.Event()
        self._acquire()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        found = self._read()
        if found is not None and _parsed(found).name in (self._mine.name, NOBODY.name):
            self._storage.delete(FILE)

    def _acquire(self) -> None:
        while not self._storage.swap(FILE, None, _bytes(self._mine)):
            found = self._read()
            if found is None:
                continue
            holder = _parsed(found)
            if holder.name == self._mine.name:
                return  # written, though the answer to the write was lost
            if self._lives(holder, found):
                raise InUse(
                    f"{self._storage.uri} is in use: {holder}; wait until it has ended, or end it, or name another "
                    "place for this command"
                )
            if self._storage.swap(FILE, found, _bytes(self._mine)):
                return

    def _read(self) -> bytes | None:
        try:
            return self._storage.read(FILE)
        except StorageError:
            if self._storage.exists(FILE):
                raise
            return None

    def _lives(self, holder: Holder, found: bytes) -> bool:
        """Whether the holder still renews its lease. On this machine its process is looked up instead."""
        if holder.machine == _machine() and (runs := _runs(holder)) is not None:
            return runs
        say(f"{self._storage.uri}: {holder}; waiting for its next sign of life, at most {EXPIRES_S:.0f} s")
        until = time.monotonic() + EXPIRES_S
        while time.monotonic() < until:
            self._over.wait(LOOK_S)
            if self._read() != found:
                return self._read() is not None
        return False

    def _renew(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                other = self._beat()
            except StorageError as error:
                logger.warning("the lease of %s could not be renewed: %s", self._storage.uri, error)
                continue
            if other is not None:
                self._lost(
                    f"{self._storage.uri} was taken over, because this command gave no sign of life for "
                    f"{EXPIRES_S:.0f} s: {other}; what is done is kept, wait until that command has ended"
                )
                return

    def _beat(self) -> Holder | None:
        """Renews the lease; a file that was deleted or damaged is written again. Returns another command that holds
        it, if one does."""
        later = replace(self._mine, beats=self._mine.beats + 1)
        if self._storage.swap(FILE, _bytes(self._mine), _bytes(later)):
            self._mine = later
            return None
        found = self._read()
        holder = NOBODY if found is None else _parsed(found)
        if holder.name == self._mine.name:
            self._mine = holder  # written, though the answer to the write was lost
        elif holder != NOBODY:
            return holder
        elif self._storage.swap(FILE, found, _bytes(later)):
            self._mine = later
        return None


def _holder(verb: str) -> Holder:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Holder(verb, socket.gethostname(), os.getpid(), _machine(), psutil.Process().create_time(), since)


def _machine() -> str:
    """Names the scope of a pid: containers may share the name of a host without seeing each other's processes."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _runs(holder: Holder) -> bool | None:
    """Whether the process of a holder on this machine runs; None if another process may have its pid."""
    try:
        process = psutil.Process(holder.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return True if abs(process.create_time() - holder.started) < SAME_START_S else None
    except (psutil.NoSuchProcess, ValueError):  # a negative number is no process's
        return False


def _bytes(holder: Holder) -> bytes:
    return (json.dumps(asdict(holder)) + "\n").encode()


def _parsed(data: bytes) -> Holder:
    try:
        return shaped(parse_json(data, FILE, ""), Holder, FILE, "")
    except ArtifactCorrupt:
        return NOBODY
