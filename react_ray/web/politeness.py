"""Schedules requests politely: limits the concurrency, the rate and the pauses of each host.

There is no clock and no network in here: every method is given the time. The schedule stays with a host while it has
jobs, at the host's full concurrency, so that connections are used again before they become idle.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

LONGEST_PAUSE_S = 366 * 24 * 3600.0  # a date of Retry-After beyond it is a mistake, and is ignored


@dataclass
class _Host(Generic[T]):
    jobs: deque[T] = field(default_factory=deque)
    num_in_flight: int = 0
    not_before: float = 0.0  # from its rate, or from its Retry-After
    listed: bool = False  # in `_ready` or `_later`, never in both


class Schedule(Generic[T]):
    """Queues jobs by host; at most `concurrency` of a host are in flight and `rate` start per second (0 = no limit)."""

    def __init__(self, concurrency: int, rate: float = 0.0) -> None:
        self._concurrency = concurrency
        self._pause_s = 1 / rate if rate else 0.0
        self._hosts: dict[str, _Host[T]] = {}
        self._ready: deque[str] = deque()
        self._later: list[tuple[float, int, str, T | None]] = []  # a job to add, or a host to wake
        self._order = count()

    def add(self, host: str, job: T, now: float, not_before: float = 0.0) -> None:
        if not_before > now:
            heappush(self._later, (not_before, next(self._order), host, job))
            return
        entry = self._hosts.setdefault(host, _Host())
        entry.jobs.append(job)
        self._list(host, entry, now, first=False)

    def take(self, now: float) -> tuple[str, T] | None:
        """Returns a host and a job of it, which is in flight until `done`; None if no job may start now."""
        self._wake(now)
        while self._ready:
            host = self._ready.popleft()
            entry = self._hosts[host]
            entry.listed = False
            if entry.not_before > now:  # paused since it was listed
                self._list(host, entry, now)
                continue
            entry.num_in_flight += 1
            if self._pause_s:
                entry.not_before = now + self._pause_s
            job = entry.jobs.popleft()
            self._list(host, entry, now)
            return host, job
        return None

    def done(self, host: str, now: float) -> None:
        entry = self._hosts[host]
        entry.num_in_flight -= 1
        self._list(host, entry, now)
        self._forget(host, entry, now)

    def pause(self, host: str, until: float) -> None:
        """Starts no job of this host, which has one in flight, before `until`."""
        entry = self._hosts[host]
        entry.not_before = max(entry.not_before, until)

    def has_waiting(self, host: str) -> bool:
        return host in self._hosts and bool(self._hosts[host].jobs)

    def wakes_at(self) -> float | None:
        """Returns the time at which the next waiting job or host may start; None if nothing waits for a time."""
        return self._later[0][0] if self._later else None

    def _list(self, host: str, entry: _Host[T], now: float, first: bool = True) -> None:
        """`first`: a host that has begun goes on before another begins, but a new host queues behind the others."""
        if entry.listed or not entry.jobs or entry.num_in_flight >= self._concurrency:
            return
        entry.listed = True
        if entry.not_before > now:
            heappush(self._later, (entry.not_before, next(self._order), host, None))
        elif first:
            self._ready.appendleft(host)
        else:
            self._ready.append(host)

    def _wake(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, _, host, job = heappop(self._later)
            if job is not None:
                self.add(host, job, now)
            else:
                entry = self._hosts[host]
                entry.listed = False
                self._list(host, entry, now)
                self._forget(host, entry, now)

    def _forget(self, host: str, entry: _Host[T], now: float) -> None:
        """Drops a host without jobs, since a pool has many; a paused host is kept until its pause is over."""
        if entry.num_in_flight or entry.jobs or entry.listed:
            return
        if entry.not_before > now:
            entry.listed = True
            heappush(self._later, (entry.not_before, next(self._order), host, None))
        else:
            del self._hosts[host]


def backoff_s(first_s: float, longest_s: float, url: str, tries: int) -> float:
    """Returns a pause that doubles with each try; half of it varies by URL, so that retries do not come all at once."""
    spread = zlib.crc32(f"{tries} {url}".encode("utf-8", "surrogateescape")) / 2**32
    return min(longest_s, first_s * 2 ** min(tries - 1, 30)) * (0.5 + 0.5 * spread)


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Parses the seconds of a Retry-After header, which is a number or a date.

    Returns None if it is neither, or a date so far ahead that no server can mean it.
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value)
        if until.tzinfo is None:
            until = until.replace(tzinfo=timezone.utc)
        seconds = (until - (now or datetime.now(timezone.utc))).total_seconds()
    except (ValueError, OverflowError, TypeError, IndexError):  # what the library raises for a stranger's text
        return None
    return max(0.0, seconds) if seconds <= LONGEST_PAUSE_S else None
