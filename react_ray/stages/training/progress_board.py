"""ProgressBoard: the actor that rank 0 writes its progress to and that the driver reads.

`ray.train.report` is no substitute: its callbacks run in Ray Train's controller, an actor that shows the driver
nothing, and each call waits for the controller's poll, 1.5 s on average. The class has a file of its own so that its
process starts without torch.
"""

from __future__ import annotations


class ProgressBoard:
    def __init__(self) -> None:
        self._states: dict[str, tuple[int, int, str]] = {}
        self._warnings: list[str] = []

    def write(self, arm: str, step: int, total: int, note: str) -> None:
        self._states[arm] = (step, total, note)

    def read(self) -> dict[str, tuple[int, int, str]]:
        """{arm: (step, total, note)}, in the order in which the trainings began."""
        return self._states

    def warn(self, text: str) -> None:
        self._warnings.append(text)

    def warnings(self) -> list[str]:
        return self._warnings
