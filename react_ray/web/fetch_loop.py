"""Serves the URLs of all calls in one event loop: requests, redirects and retries until each has a result.

A worker is a task that serves one URL after another while the schedule (politeness.py) has a URL that may be requested
now, and then ends. The number of workers is the number of requests in flight, which adaptive_limit.py limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from react_ray.row_guard import unforeseen
from react_ray.web import status
from react_ray.web.adaptive_limit import AdaptiveLimit
from react_ray.web.addresses import Resolver
from react_ray.web.fetch_config import FetchConfig
from react_ray.web.fetch_result import FetchResult, OnDone
from react_ray.web.http_client import Answer, HttpClient
from react_ray.web.politeness import Schedule, backoff_s
from react_ray.web.robots import Robots
from react_ray.web.url_policy import UrlPolicy
from react_ray.web.web_url import UrlRefused, WebUrl

MAX_REDIRECTS = 5  # of one URL


@dataclass(eq=False)
class _Call:
    """One call of `fetch`. `over` is done when all rows are, or when the caller no longer waits."""

    results: list[FetchResult | None]  # all stay None if keep is False
    keep: bool
    num_left: int
    on_done: OnDone | None
    over: asyncio.Future[None]
    task: asyncio.Task[Any] | None


@dataclass(eq=False)
class _Job:
    """One URL of a call, with all rows that have this URL."""

    url: WebUrl
    rows: list[int]
    call: _Call
    started: float = 0.0
    tries: int = 0
    num_redirects: int = 0
    visited: set[str] = field(default_factory=set)


class FetchLoop:
    """Must be created, used and closed in the thread of its event loop."""

    def __init__(self, config: FetchConfig, policy: UrlPolicy, resolver: Resolver | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._policy = policy
        self._client = HttpClient(config, resolver)
        self._robots = Robots(config.user_agent_token, self._client, policy) if config.robots_txt else None
        self._schedule: Schedule[_Job] = Schedule(config.per_host_concurrency, config.per_host_rate)
        self._limit = AdaptiveLimit(config.max_in_flight, config.adaptive)
        self._workers: set[asyncio.Task[None]] = set()
        self._calls: set[_Call] = set()
        self._alarm: asyncio.TimerHandle | None = None

    async def fetch(
        self,
        num_rows: int,
        jobs: Sequence[tuple[WebUrl, list[int]]],
        refused: Iterable[tuple[int, FetchResult]],
        on_done: OnDone | None,
        keep: bool = True,
    ) -> list[FetchResult]:
        """Fetches `jobs`, which are URLs with their rows; `refused` has the results of all other rows."""
        call = _Call([None] * num_rows, keep, num_rows, on_done, self._loop.create_future(), asyncio.current_task())
        self._calls.add(call)
        try:
            for row, fetched in refused:
                self._finish(call, [row], fetched)
            now = self._loop.time()
            for url, rows in jobs:
                self._schedule.add(url.host, _Job(url, rows, call), now)
            self._start_workers()
            if call.num_left:
                await call.over
        finally:
            call.over.cancel()  # workers skip the jobs that are left
            self._calls.discard(call)
        return [fetched for fetched in call.results if fetched is not None]

    async def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        waiting = [call.task for call in self._calls if call.task is not None]
        for task in (*self._workers, *waiting):
            task.cancel()
        await asyncio.gather(*self._workers, *waiting, return_exceptions=True)
        if self._robots is not None:
            await self._robots.close()
        await self._client.close()

    def _start_workers(self) -> None:
        """Starts workers for all jobs that may start now, within the limit, and sets an alarm for the next that may
        not.
        """
        while len(self._workers) < self._limit.limit and (taken := self._schedule.take(self._loop.time())) is not None:
            self._workers.add(self._loop.create_task(self._work(*taken)))
        wakes_at = self._schedule.wakes_at()
        if len(self._workers) >= self._limit.limit:
            return  # every worker calls this again when it ends; an overdue alarm would fire in an endless loop
        if wakes_at is None or (self._alarm is not None and self._alarm.when() <= wakes_at):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(wakes_at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._start_workers()

    async def _work(self, host: str, job: _Job) -> None:
        taken: tuple[str, _Job] | None = (host, job)
        try:
            while taken is not None:
                host, job = taken
                try:
                    if not job.call.over.done():
                        await self._serve(host, job)
                except Exception as error:  # from on_done or from this machine: raise it in the caller
                    if not job.call.over.done():
                        job.call.over.set_exception(error)
                finally:
                    self._schedule.done(host, self._loop.time())
                if len(self._workers) < self._limit.limit:
                    self._start_workers()
                taken = self._schedule.take(self._loop.time()) if len(self._workers) <= self._limit.limit else None
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._workers.discard(task)
        self._start_workers()

    async def _serve(self, host: str, job: _Job) -> None:
        """Makes one request of a job, which is then finished or in the schedule again."""
        started = self._loop.time()
        job.started = job.started or started
        job.tries += 1
        try:
            fetched = await self._request(host, job, started)
        except Exception as error:
            reason, seconds = unforeseen(error), self._loop.time() - job.started
            fetched = FetchResult(status.INTERNAL_ERROR, reason, None, seconds, job.tries, None)
        if fetched is not None:
            self._finish(job.call, job.rows, fetched)

    async def _request(self, host: str, job: _Job, started: float) -> FetchResult | None:
        """Returns the result of a job, or None if it is in the schedule again."""
        answer = await self._ask(host, job.url)
        now = self._loop.time()
        self._limit.record(answer.status in status.CONGESTED, now - started)
        if answer.location is not None:
            refusal = self._redirect(job, answer.location, now)
            if refusal is None:
                return None
            answer.status, answer.error = refusal.status, str(refusal)
        elif self._retry(host, job, answer, now):
            return None
        return FetchResult(answer.status, answer.error, answer.data, now - job.started, job.tries, answer.http_status)

    async def _ask(self, host: str, url: WebUrl) -> Answer:
        if self._robots is not None:
            allowed = await self._robots.allow(url)
            if allowed is None:
                return Answer(status.ROBOTS_UNREADABLE, "robots.txt could not be read")
            if not allowed:
                return Answer(status.ROBOTS, "disallowed by robots.txt")
        return await self._client.get(
            url, self._config.max_bytes, self._schedule.has_waiting(host), self._config.respect_opt_out
        )

    def _redirect(self, job: _Job, location: str, now: float) -> UrlRefused | None:
        """Schedules the job at its new host, whose limits and rules apply, or returns why it may not go there."""
        job.num_redirects += 1
        job.visited.add(str(job.url.url))
        try:
            if job.num_redirects > MAX_REDIRECTS:
                raise UrlRefused(status.REDIRECT_LOOP, f"more than {MAX_REDIRECTS} redirects")
            url = self._policy.follow(job.url, location)
            if str(url.url) in job.visited:
                raise UrlRefused(status.REDIRECT_LOOP, "redirects lead back to where they were")
        except UrlRefused as refusal:
            return refusal
        job.url = url
        job.tries -= 1  # the next request belongs to the same try
        self._schedule.add(url.host, job, now)
        return None

    def _retry(self, host: str, job: _Job, answer: Answer, now: float) -> bool:
        """Schedules another try, unless the failure is final or the server asks for too long a pause."""
        if not status.is_retriable(answer.status):
            return False
        longest_s = self._config.max_backoff_s
        pause_s = backoff_s(self._config.backoff_s, longest_s, str(job.url.url), job.tries)
        if answer.retry_after_s is not None:
            self._schedule.pause(host, now + min(answer.retry_after_s, longest_s))
            pause_s = max(pause_s, answer.retry_after_s)
        if job.tries > self._config.retries or pause_s > longest_s:
            return False
        self._schedule.add(host, job, now, now + pause_s)
        return True

    def _finish(self, call: _Call, rows: list[int], fetched: FetchResult) -> None:
        for row in rows:
            if call.over.done():
                return
            if call.keep:
                call.results[row] = fetched
            call.num_left -= 1
            if call.on_done is not None:
                call.on_done(row, fetched)
        if not call.num_left:
            call.over.set_result(None)
