"""Adapts the number of requests in flight to what the network carries, as TCP adapts its window.

The limit doubles until the first bad window of requests; after that, every good window adds STEP and every bad one
halves it. A window is bad if far more of its requests than usual met congestion, or if its median request took twice as
long as usual. Dead links and slow hosts are normal on the web, so only a change counts as congestion.
"""

from __future__ import annotations

from statistics import median

START = 32
FEWEST = 8
STEP = 8
FEWEST_PER_WINDOW = 64  # a median over fewer requests is too noisy
SLOWER = 2.0
SLACK_S = 0.05  # on a fast line, a median of 2 ms doubles by chance
MORE_FAILURES = 0.1  # by how much the congested share of a window may exceed the usual share
FORGET = 0.1  # weight of one window in the moving averages of the usual share and time


class AdaptiveLimit:
    """`limit` is the number of requests that may be in flight now; without `adaptive` it is always `most`."""

    def __init__(self, most: int, adaptive: bool = True) -> None:
        self._most = most
        self._adaptive = adaptive
        self._doubling = True
        self._seconds: list[float] = []
        self._num_congested = 0
        self._usual_s = 0.0
        self._usual_share = 0.0
        self.limit = min(START, most) if adaptive else most

    def record(self, congested: bool, seconds: float) -> None:
        """Counts a finished request, which took `seconds` until its last byte or until it failed."""
        if not self._adaptive:
            return
        if congested:
            self._num_congested += 1
        else:
            self._seconds.append(seconds)
        num_ended = len(self._seconds) + self._num_congested
        if num_ended >= max(FEWEST_PER_WINDOW, self.limit):
            self._adjust(self._num_congested / num_ended, median(self._seconds) if self._seconds else self._usual_s)
            self._seconds.clear()
            self._num_congested = 0

    def _adjust(self, share: float, seconds: float) -> None:
        self._usual_s = self._usual_s or seconds
        bad = share > self._usual_share + MORE_FAILURES or seconds > SLOWER * self._usual_s + SLACK_S
        self._usual_share += FORGET * (share - self._usual_share)
        self._usual_s += FORGET * (seconds - self._usual_s)
        if bad:
            self._doubling = False
            self.limit = max(min(FEWEST, self._most), self.limit // 2)
        else:
            self.limit = min(self._most, 2 * self.limit if self._doubling else self.limit + STEP)
