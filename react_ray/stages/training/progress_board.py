"""Where a training is: rank 0 writes, the driver reads.

An actor in a file of its own, so that its process starts without torch. Next: train_worker.py, which writes.
"""

from __future__ import annotations


class ProgressBoard:
    def __init__(self) -> None:
        self.states: dict[str, tuple[int, int, str]] = {}  # by arm, in the order in which they began
        self.found: Exception | None = None
        self.failed: set[str] = set()  # starts of the workers
        self.said: list[str] = []

    def write(self, arm: str, step: int, total: int, note: str) -> None:
        self.states[arm] = (step, total, note)

    def stop(self, problem: Exception, start: str, retries: int) -> None:
        """At the first problem that is told after `retries` starts of the workers have failed; what comes after may have come of it."""
        self.failed.add(start)
        if len(self.failed) > retries:
            self.found = self.found or problem

    def problem(self) -> Exception | None:
        return self.found

    def warn(self, text: str) -> None:
        self.said.append(text)

    def warnings(self) -> list[str]:
        return self.said

    def read(self) -> dict[str, tuple[int, int, str]]:
        return self.states
