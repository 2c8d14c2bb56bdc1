"""Pace: when a question is asked of a second process too, because the first is slower than most answers were.

Hedged requests (Dean and Barroso, "The Tail at Scale", CACM 2013): after the 95th percentile of the times before, and
with at most 5 % more questions.
"""

from __future__ import annotations

from collections import deque

import numpy as np

REMEMBERED, FEWEST = 256, 32  # answers
EXTRA = 0.05


class Pace:
    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._late_s = float("inf")
        self.asked = self.extra = 0

    def answered(self, seconds: float) -> None:
        self._seconds.append(seconds)
        if len(self._seconds) >= FEWEST and self.asked % 16 == 0:
            self._late_s = float(np.quantile(self._seconds, 0.95))

    @property
    def late_s(self) -> float:
        """The time after which an answer is late; infinite while too few are known."""
        return self._late_s

    def may_ask_again(self) -> bool:
        """Counts another question if there may be one."""
        if self.extra + 1 > EXTRA * self.asked:
            return False
        self.extra += 1
        return True
