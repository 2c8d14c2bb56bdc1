"""Where a training is: rank 0 writes, the driver reads. An actor in a file of its own, whose process so starts without torch."""

from __future__ import annotations


class ProgressBoard:
    def __init__(self) -> None:
        self.state = (0, 0, "")

    def write(self, step: int, total: int, note: str) -> None:
        self.state = (step, total, note)

    def read(self) -> tuple[int, int, str]:
        return self.state
