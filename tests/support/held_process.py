"""HeldProcess: a place where the next process that comes is held until a test kills it."""

from __future__ import annotations

import os
import select
import signal
import threading
from pathlib import Path

PATIENCE_S = 120.0


class HeldProcess:
    def __init__(self, folder: Path) -> None:
        """folder: of its own, which all processes see."""
        folder.mkdir()
        self._armed, self._told = f"{folder}/armed", f"{folder}/told"
        os.mkfifo(self._told)

    def arm(self) -> None:
        """Holds the next one."""
        Path(self._armed).touch()

    def pass_or_stay(self) -> None:
        """Called by the processes: the first to come after `arm` stays."""
        try:
            os.unlink(self._armed)
        except FileNotFoundError:
            return
        with open(self._told, "w", encoding="ascii") as told:
            told.write(f"{os.getpid()}\n")
        threading.Event().wait()

    def kill(self) -> None:
        """Waits for the process that is held, and kills it."""
        told = os.open(self._told, os.O_RDWR)  # so that it opens before another process writes
        try:
            assert select.select([told], [], [], PATIENCE_S)[0], "no process came"
            os.kill(int(os.read(told, 32)), signal.SIGKILL)
        finally:
            os.close(told)
