"""Interruption: Ctrl-C and SIGTERM end a command within seconds, at any moment, and say how it goes on.

Both signals are blocked in all threads and taken by `sigwait` in a thread of its own, so it does not matter which
handlers Ray, Ray Train or abseil install, nor in which C code the main thread is. The thread prints the hint, raises
KeyboardInterrupt in the main thread, and ends the process with its children when GRACE_S have passed or a second
signal comes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM)
WAKE = signal.SIGUSR2  # to the main thread: it also ends system calls in which that thread waits
GRACE_S = 5.0  # for what `finally` does: shutting Ray down, giving leases back
HINT = "interrupted; what is done is kept, the same command goes on from "
SHOW_CURSOR = b"\x1b[?25h"  # which a live progress display has hidden
CLEAR_LINE = b"\r\x1b[2K"  # of which a part may be longer than what is said there
PATIENCE_S = 1.0  # with somebody who is speaking and does not end, as into a pipe that nobody reads

# Of whoever writes to stderr, so that nothing comes after the last line. A thread may write while it writes: what is
# collected meanwhile may log.
_voice = threading.RLock()
_guards: list[Interruption] = []


class Interruption:
    """`with Interruption() as interruption:` around a command; `hint` is the line that is said. For the main thread."""

    def __init__(self) -> None:
        self.hint = f"{HINT}it"
        self.code = 0  # the exit code that the first signal gives
        self._over = False
        self._ending = threading.Lock()

    def __enter__(self) -> Interruption:
        self.hint, self._over = f"{HINT}it", False
        self._stderr = os.dup(2)  # kept, because the start of Ray redirects it
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._main = threading.get_ident()
        self._woken_by = signal.signal(WAKE, _raise)
        self._thread = threading.Thread(target=self._wait, name="signals", daemon=True)
        self._thread.start()
        _guards.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.code:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            self._end()
        _guards.remove(self)
        self._over = True
        assert self._thread.ident is not None
        signal.pthread_kill(self._thread.ident, signal.SIGTERM)
        self._thread.join()
        signal.signal(WAKE, self._woken_by)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        os.close(self._stderr)

    def resumes_from(self, places: list[str]) -> None:
        """The same command will find there what is done."""
        self.hint = f"{HINT}{' and '.join(places)}"

    def stop(self, code: int, line: str) -> None:
        """Ends the command as a signal does, from any thread, with this exit code and this line."""
        if self.code:
            return
        self.code = code
        threading.Thread(target=self._end_later, name="end", daemon=True).start()
        self._say(line)  # may block, if nobody reads
        signal.pthread_kill(self._main, WAKE)

    def _wait(self) -> None:
        while True:
            signum = signal.sigwait(SIGNALS)
            if self._over:
                return
            if self.code:
                self._end()
            self.stop(128 + signum, self.hint)

    def _end_later(self) -> None:
        time.sleep(GRACE_S)
        self._end()

    def _end(self) -> None:
        """Ends the process now. The Ray that it started ends with it; a cluster that it joined misses it and cleans
        up."""
        self._ending.acquire()  # the first to come ends the process for all
        _kill(psutil.Process())
        if os.isatty(self._stderr):
            os.write(self._stderr, SHOW_CURSOR)
        os._exit(self.code)

    def _say(self, line: str) -> None:
        spoken = _voice.acquire(timeout=PATIENCE_S)
        with suppress(OSError):
            start = CLEAR_LINE if os.isatty(self._stderr) else b""
            os.write(self._stderr, start + f"{line}\n".encode())
        if spoken:
            _voice.release()


def is_guarded() -> bool:
    """True in the process of a command."""
    return bool(_guards)


@contextmanager
def speaking() -> Iterator[bool]:
    """`with speaking() as heard: if heard: ...` around what a display writes: False once a command's last line is due.

    The last line is said after the block.
    """
    with _voice:
        yield not any(guard.code for guard in _guards)


class Stderr:
    """stderr, up to the last line of a command that is interrupted."""

    def __init__(self) -> None:
        self._file = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # a live display has put itself before it

    def write(self, text: str) -> None:
        with speaking() as heard:
            if heard:
                self._file.write(text)
                self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _raise(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _kill(process: psutil.Process) -> None:
    """Kills all descendants, children last: Ray ends a process whose raylet is gone, with an exit code of its own.

    Children are stopped meanwhile, so that none of them starts a killed process again.
    """
    with suppress(psutil.Error):
        children = process.children()
        for child in children:
            with suppress(psutil.Error):
                child.suspend()
        below = [one for one in process.children(recursive=True) if one not in children]
        for each in [*below, *children]:
            with suppress(psutil.Error):
                each.kill()


def _unblock() -> None:
    """A child process gets its signals as usual."""
    if _guards:
        _guards.clear()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


os.register_at_fork(after_in_child=_unblock)
