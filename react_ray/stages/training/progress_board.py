"""ProgressBoard: the actor that rank 0 writes its progress to and that the driver reads.

It outlives the workers, so it also knows whether they get on from one start to the next.

`ray.train.report` is no substitute: its callbacks run in Ray Train's controller, an actor that shows the driver
nothing, and each call waits for the controller's poll, 1.5 s on average. The class has a file of its own so that its
process starts without torch.
"""

from __future__ import annotations


class ProgressBoard:
    def __init__(self) -> None:
        self._states: dict[str, tuple[int, int, str]] = {}
        self._warnings: list[str] = []
        self._furthest: dict[str, int] = {}  # the last step that any start reached, by arm
        self._at_start = -1  # the sum of these when the workers were started last
        self._starts_in_vain = 0

    def begin(self) -> tuple[int, int]:
        """Counts a start of the workers. Returns how many starts in a row made no step that none before had made, and
        the furthest step.
        """
        furthest = sum(self._furthest.values())
        self._starts_in_vain = self._starts_in_vain + 1 if furthest == self._at_start else 0
        self._at_start = furthest
        return self._starts_in_vain, max(self._furthest.values(), default=0)

    def write(self, arm: str, step: int, total: int, note: str) -> None:
        self._states[arm] = (step, total, note)
        self._furthest[arm] = max(step, self._furthest.get(arm, 0))

    def read(self) -> dict[str, tuple[int, int, str]]:
        """{arm: (step, total, note)}, in the order in which the trainings began."""
        return self._states

    def warn(self, text: str) -> None:
        self._warnings.append(text)

    def warnings(self) -> list[str]:
        return self._warnings
