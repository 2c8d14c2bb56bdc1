"""Measure the peak memory of a process tree, and return freed memory to the system.

A local Ray is below the process that started it; a page that processes share counts once.
"""

from __future__ import annotations

import ctypes
import threading

import psutil
import pyarrow as pa
from typing_extensions import Self

_libc = ctypes.CDLL(None)
SAMPLE_INTERVAL_S = 10.0  # the kernel walks every page of every process; sampling each second slows a training


def give_back() -> None:
    """Return freed memory to the system; the C library and Arrow keep it, so a long-lived worker would grow."""
    pa.default_memory_pool().release_unused()
    if hasattr(_libc, "malloc_trim"):  # glibc
        _libc.malloc_trim(0)


class MemoryWatch:
    """`with MemoryWatch() as memory: ...`, then `memory.peak_gb`."""

    def __init__(self, interval_s: float = SAMPLE_INTERVAL_S) -> None:
        self.interval_s, self.peak_gb = interval_s, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        stopped = False
        while not stopped:
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                    continue
            self.peak_gb = max(self.peak_gb, total / 2**30)
            stopped = self._stop.wait(self.interval_s)
