"""URLs of many hosts in; the next one that may be asked now, out.

No clock and no network in here: every method is told the time. Hosts are taken one after the other, each with as many
requests as it may have, so that its connections are used again before they go idle. Next: adaptive_limit.py.
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


@dataclass
class _Host(Generic[T]):
    jobs: deque[T] = field(default_factory=deque)
    num_in_flight: int = 0
    not_before: float = 0.0  # by its rate, or by its Retry-After
    listed: bool = False  # in `ready` or `asleep`: never in both


class Schedule(Generic[T]):
    """Jobs by host, at most `concurrency` of one host in flight and `rate` of them per second (0 = no limit)."""

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
        """A host and its job, which is in flight until `done`; None if none may start now."""
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
        """Nothing of this host, which has a job in flight, starts before `until`."""
        entry = self._hosts[host]
        entry.not_before = max(entry.not_before, until)

    def has_waiting(self, host: str) -> bool:
        return host in self._hosts and bool(self._hosts[host].jobs)

    def wakes_at(self) -> float | None:
        """When something may start that may not now, if nothing is `done` before; None if there is no such thing."""
        return self._later[0][0] if self._later else None

    def _list(self, host: str, entry: _Host[T], now: float, first: bool = True) -> None:
        """`first`: a host that was begun goes on before another begins, but newcomers do not push ahead of others."""
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
        """A pool has more hosts than should stay in memory; one that is paused is remembered until it may be asked."""
        if entry.num_in_flight or entry.jobs or entry.listed:
            return
        if entry.not_before > now:
            entry.listed = True
            heappush(self._later, (entry.not_before, next(self._order), host, None))
        else:
            del self._hosts[host]


def backoff_s(first_s: float, longest_s: float, url: str, tries: int) -> float:
    """Doubles with each try; half of it is spread by the URL, so that a host's rows do not come back all at once."""
    spread = zlib.crc32(f"{tries} {url}".encode("utf-8", "surrogateescape")) / 2**32
    return min(longest_s, first_s * 2 ** min(tries - 1, 30)) * (0.5 + 0.5 * spread)


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date; None if it says nothing readable."""
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=timezone.utc)
    return max(0.0, (until - (now or datetime.now(timezone.utc))).total_seconds())
