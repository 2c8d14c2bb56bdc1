"""Says one line if the process of a command ends without a word.

Ray's C++ side ends the driver at once (exit code 1) when the raylet of its node is lost, and the kernel ends it for
want of memory: neither leaves Python a moment to speak. A small process watches a pipe whose other end closes with the
command.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
from contextlib import suppress

from react_ray.interrupt import is_guarded

LINE = (
    "error: this command was ended from outside: a process of Ray on this machine was lost, or this one was killed, "
    "most often for want of memory; free memory or lower the section cluster; what is done is kept, run the same "
    "command again to go on"
)
WATCH = """
import os, sys
if not os.read(0, 1):
    os.write(2, (sys.argv[1] + "\\n").encode())
"""

_watchers: list[subprocess.Popen[bytes]] = []


def watch() -> None:
    """Begins, once, if this process is a command of ours; a program that uses this package speaks for itself."""
    if _watchers or not is_guarded():
        return
    command = [sys.executable, "-I", "-S", "-c", WATCH, LINE]
    with suppress(OSError):  # a machine without room for one more process has other worries
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
        _watchers.append(started)
        atexit.register(_over)


def _over() -> None:
    for watcher in _watchers:
        assert watcher.stdin is not None
        with suppress(OSError):  # it was killed
            watcher.stdin.write(b".")
            watcher.stdin.close()
        watcher.wait()
    _watchers.clear()
