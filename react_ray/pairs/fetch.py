"""URLs in; the bytes of each, or why there are none, out. A URL never raises: what the web does is a status.

Waiting is cheap and tasks are not: a worker task takes one URL after the other for as long as any may be asked, then it
ends. What may be asked is politeness.py's to say, how many at a time adaptive.py's. Next: image.py, which looks at the bytes.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, TypeVar

from react_ray.errors import ReactRayError, ResourceError
from react_ray.pairs import robots, status
from react_ray.pairs.adaptive import AdaptiveLimit
from react_ray.pairs.addresses import Resolver, is_address, is_public
from react_ray.pairs.block_list import open_block_list
from react_ray.pairs.fetch_config import FetchConfig
from react_ray.pairs.http_client import Answer, HttpClient
from react_ray.pairs.politeness import Schedule, backoff_s
from react_ray.pairs.web_url import UrlRefused, WebUrl, follow, parse_url

T = TypeVar("T")

OTHER_FILES = 128  # what a process has open besides its connections


@dataclass(frozen=True)
class Fetched:
    """`status` is of status.py; `error` is one line, the same in every run."""

    status: str
    error: str | None
    data: bytes | None
    seconds: float  # from the first request to the last byte of the last one, with the pauses between
    tries: int  # requests that were made, redirects not counted; 0 = refused before
    http_status: int | None  # of the last answer


OnDone = Callable[[int, Fetched], None]


@dataclass(eq=False)
class _Call:
    """One call of `fetch`; `over` is done when all rows are, or when nobody waits for them any more."""

    results: list[Fetched | None]
    num_left: int
    on_done: OnDone | None
    over: asyncio.Future[None]
    task: asyncio.Task[Any] | None


@dataclass(eq=False)
class _Job:
    """One URL of a call, which may be that of several rows."""

    url: WebUrl
    rows: list[int]
    call: _Call
    started: float = 0.0
    tries: int = 0
    num_redirects: int = 0
    visited: set[str] = field(default_factory=set)


class Fetcher:
    """Fetches in a thread of its own. Connections, names, robots.txt and limits are kept from call to call.

    Several threads may call at once: their requests share all limits, and the slow end of one call is filled by the next.
    `resolver` is a seam for tests.
    """

    def __init__(self, config: FetchConfig, resolver: Callable[[], Resolver] | None = None) -> None:
        _reserve_files(3 * config.max_in_flight + OTHER_FILES)
        self._config = config
        self._blocked = open_block_list(config)
        self._schedule: Schedule[_Job] = Schedule(config.per_host_concurrency, config.per_host_rate)
        self._limit = AdaptiveLimit(config.max_in_flight, config.adaptive)
        self._workers: set[asyncio.Task[None]] = set()
        self._calls: set[_Call] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._robots: robots.Robots | None = None
        self._loop = asyncio.new_event_loop()
        self._dns_threads = ThreadPoolExecutor(config.num_dns_threads, thread_name_prefix="dns")
        self._loop.set_default_executor(self._dns_threads)
        self._thread = Thread(target=self._loop.run_forever, name="fetch", daemon=True)
        self._thread.start()
        try:
            self._client = self._wait(self._open(resolver))
        except BaseException:
            self._stop()
            raise

    def fetch(self, urls: Sequence[str | None], on_done: OnDone | None = None) -> list[Fetched]:
        """One result per URL, in their order; equal URLs are asked once.

        `on_done(row, fetched)` is called as each arrives, in the fetcher's thread: it holds up all requests until it
        returns, so let it hand its work to other threads. What it raises ends the call and is raised here.
        """
        if self._loop.is_closed():
            raise ReactRayError("this Fetcher is closed; make a new one")
        urls_by_text: dict[str, WebUrl] = {}
        rows_by_text: dict[str, list[int]] = {}
        refused: list[tuple[int, Fetched]] = []
        for row, text in enumerate(urls):
            try:
                url = self._admit(parse_url(text, self._config.allow_schemes))
            except UrlRefused as error:
                refused.append((row, Fetched(error.status, str(error), None, 0.0, 0, None)))
                continue
            urls_by_text[str(url.url)] = url
            rows_by_text.setdefault(str(url.url), []).append(row)
        jobs = [(url, rows_by_text[text]) for text, url in urls_by_text.items()]
        return self._wait(self._fetch(len(urls), jobs, refused, on_done))

    def close(self) -> None:
        """Ends what is in flight; a `fetch` that waits raises."""
        if not self._loop.is_closed():
            self._wait(self._shut())
            self._stop()

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError as error:
            raise ReactRayError("the Fetcher was closed while it fetched; make a new one and fetch again") from error
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _admit(self, url: WebUrl) -> WebUrl:
        """UrlRefused for what is known without asking anybody; names are checked again as addresses."""
        if self._blocked.blocks(url):
            raise UrlRefused(status.BLOCKED_DOMAIN, "on the list of blocked domains and URLs")
        if not self._config.allow_private_addresses and is_address(url.host) and not is_public(url.host):
            raise UrlRefused(status.BLOCKED_ADDRESS, "an address that is not public")
        return url

    # All below runs in the fetcher's thread.

    async def _open(self, resolver: Callable[[], Resolver] | None) -> HttpClient:
        if self._config.robots_txt:
            self._robots = robots.Robots(self._config.user_agent_token, self._read_robots)
        return HttpClient(self._config, resolver() if resolver else None)

    async def _shut(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        waiting = [call.task for call in self._calls if call.task is not None]
        for task in (*self._workers, *waiting):
            task.cancel()
        await asyncio.gather(*self._workers, *waiting, return_exceptions=True)
        if self._robots is not None:
            await self._robots.close()
        await self._client.close()
        self._dns_threads.shutdown(wait=False, cancel_futures=True)  # a name server may take minutes to give up

    async def _fetch(
        self,
        num_rows: int,
        jobs: list[tuple[WebUrl, list[int]]],
        refused: list[tuple[int, Fetched]],
        on_done: OnDone | None,
    ) -> list[Fetched]:
        call = _Call([None] * num_rows, num_rows, on_done, self._loop.create_future(), asyncio.current_task())
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
            call.over.cancel()  # workers pass over what is left of it
            self._calls.discard(call)
        return [fetched for fetched in call.results if fetched is not None]

    def _start_workers(self) -> None:
        """As many as there are jobs that may start, within the limit; and an alarm for those that may start later."""
        while len(self._workers) < self._limit.limit and (taken := self._schedule.take(self._loop.time())) is not None:
            self._workers.add(self._loop.create_task(self._work(*taken)))
        wakes_at = self._schedule.wakes_at()
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
                except Exception as error:  # of on_done, of this machine, or our own bug: the caller must see it
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
        """One request of a job; then it is finished, or in the schedule again."""
        started = self._loop.time()
        job.started = job.started or started
        job.tries += 1
        answer = await self._ask(host, job.url)
        now = self._loop.time()
        self._limit.record(answer.status in status.CONGESTED, now - started)
        if answer.location is not None:
            refusal = self._redirect(job, answer.location, now)
            if refusal is None:
                return
            answer.status, answer.error = refusal.status, str(refusal)
        elif self._retry(host, job, answer, now):
            return
        self._finish(
            job.call,
            job.rows,
            Fetched(answer.status, answer.error, answer.data, now - job.started, job.tries, answer.http_status),
        )

    async def _ask(self, host: str, url: WebUrl) -> Answer:
        if self._robots is not None:
            allowed = await self._robots.allow(url.origin, url.url.raw_path_qs)
            if allowed is None:
                return Answer(status.ROBOTS_UNREADABLE, "robots.txt could not be read")
            if not allowed:
                return Answer(status.ROBOTS, "disallowed by robots.txt")
        return await self._client.get(
            url, self._config.max_bytes, self._schedule.has_waiting(host), self._config.respect_opt_out
        )

    def _redirect(self, job: _Job, location: str, now: float) -> UrlRefused | None:
        """Puts the job in line at its new host, whose limits and rules hold as for any other URL; or why not."""
        job.num_redirects += 1
        job.visited.add(str(job.url.url))
        try:
            if job.num_redirects > self._config.max_redirects:
                raise UrlRefused(status.REDIRECT_LOOP, f"more than {self._config.max_redirects} redirects")
            url = self._admit(follow(job.url, location, self._config.allow_schemes))
            if str(url.url) in job.visited:
                raise UrlRefused(status.REDIRECT_LOOP, "redirects lead back to where they were")
        except UrlRefused as refusal:
            return refusal
        job.url = url
        job.tries -= 1  # the next request belongs to the same try
        self._schedule.add(url.host, job, now)
        return None

    def _retry(self, host: str, job: _Job, answer: Answer, now: float) -> bool:
        """Puts the job in line for later, if that may help and the server does not ask for too long a pause."""
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

    def _finish(self, call: _Call, rows: list[int], fetched: Fetched) -> None:
        for row in rows:
            if call.over.done():
                return
            call.results[row] = fetched
            call.num_left -= 1
            if call.on_done is not None:
                call.on_done(row, fetched)
        if not call.num_left:
            call.over.set_result(None)

    async def _read_robots(self, origin: str) -> str | None:
        """Empty, that is everything allowed, where a host has none; redirects are followed."""
        try:
            url = self._admit(parse_url(f"{origin}/robots.txt"))
            answer = await self._client.get(url, robots.MAX_BYTES)
            for _ in range(robots.MAX_REDIRECTS):
                if answer.location is None:
                    break
                url = self._admit(follow(url, answer.location))
                answer = await self._client.get(url, robots.MAX_BYTES)
        except UrlRefused:
            return ""
        if answer.data is not None:
            return answer.data.decode("utf-8", "replace")
        none_there = answer.http_status is not None and 300 <= answer.http_status < 500 and answer.http_status != 429
        unknown_host = answer.status in (status.DNS_NOT_FOUND, status.BLOCKED_ADDRESS)  # the URL itself will say so
        return "" if none_there or unknown_host or answer.status == status.EMPTY else None


def _reserve_files(num_files: int) -> None:
    """Each connection is an open file; systems allow 1,024 unless asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= num_files:
        return
    if hard != resource.RLIM_INFINITY and hard < num_files:
        raise ResourceError(
            f"{num_files} open files are needed and {hard} are allowed; raise `ulimit -Hn` or lower fetch.max_in_flight"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_files, hard))
