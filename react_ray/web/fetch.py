"""Fetches a list of URLs and returns one FetchResult for each.

Nothing that a server or a network does raises an exception: it becomes a status of the result.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from itertools import chain
from threading import Thread
from typing import Any, TypeVar

from react_ray.errors import ReactRayError, ResourceError
from react_ray.row_guard import unforeseen
from react_ray.web import status
from react_ray.web.addresses import Resolver
from react_ray.web.fetch_config import FetchConfig
from react_ray.web.fetch_loop import FetchLoop
from react_ray.web.fetch_result import FetchResult, OnDone
from react_ray.web.local_url import LOCAL_SCHEMES, local_scheme, read_local
from react_ray.web.url_policy import UrlPolicy
from react_ray.web.web_url import UrlRefused, WebUrl

__all__ = ["FetchConfig", "FetchResult", "Fetcher", "OnDone"]

T = TypeVar("T")

OTHER_FILES = 128  # that a process has open besides its connections


class Fetcher:
    """Fetches in its own thread and keeps connections, resolved names, robots.txt and limits from call to call.

    Several threads may call at once. Their requests share all limits, and those of one call fill the slow end of
    another. `resolver` is a seam for tests; it is called in the fetcher's thread.
    """

    def __init__(self, config: FetchConfig, resolver: Callable[[], Resolver] | None = None) -> None:
        self._policy = UrlPolicy(config)
        self._local = [scheme for scheme in config.allow_schemes if scheme in LOCAL_SCHEMES]
        self._max_bytes = config.max_bytes
        _reserve_files(3 * config.max_in_flight + OTHER_FILES)
        self._loop = asyncio.new_event_loop()
        self._dns_threads = ThreadPoolExecutor(config.num_dns_threads, thread_name_prefix="dns")
        self._loop.set_default_executor(self._dns_threads)
        self._thread = Thread(target=self._loop.run_forever, name="fetch", daemon=True)
        self._thread.start()

        async def begin() -> FetchLoop:
            return FetchLoop(config, self._policy, resolver() if resolver else None)

        try:
            self._work = self._wait(begin())
        except BaseException:
            self._stop()
            raise

    def fetch(self, urls: Sequence[str | None], on_done: OnDone | None = None) -> list[FetchResult]:
        """Returns one result per URL, in the order of `urls`; equal URLs are requested once.

        `on_done(row, result)` is called in the fetcher's thread as each result arrives. It delays all requests until it
        returns, so it should hand its work to other threads. An exception that it raises ends the call and is raised
        here.
        """
        return self._fetch(urls, on_done, keep=True)

    def fetch_each(self, urls: Sequence[str | None], on_done: OnDone) -> None:
        """Fetches like `fetch`, but keeps no result once `on_done` has it: memory holds only what is in flight."""
        self._fetch(urls, on_done, keep=False)

    def _fetch(self, urls: Sequence[str | None], on_done: OnDone | None, keep: bool) -> list[FetchResult]:
        if self._loop.is_closed():
            raise ReactRayError("this Fetcher is closed; make a new one")
        jobs: dict[str, tuple[WebUrl, list[int]]] = {}
        refused: list[tuple[int, FetchResult]] = []
        local: list[tuple[int, str]] = []
        for row, text in enumerate(urls):
            if text and local_scheme(text) in self._local:
                local.append((row, text))
                continue
            try:
                url = self._policy.admit(text)
            except UrlRefused as error:
                refused.append((row, FetchResult(error.status, str(error), None, 0.0, 0, None)))
            except Exception as error:
                refused.append((row, FetchResult(status.INTERNAL_ERROR, unforeseen(error), None, 0.0, 0, None)))
            else:
                jobs.setdefault(str(url.url), (url, []))[1].append(row)
        here = ((row, read_local(text, self._max_bytes)) for row, text in local)
        return self._wait(self._work.fetch(len(urls), list(jobs.values()), chain(refused, here), on_done, keep))

    def close(self) -> None:
        """Ends what is in flight; a `fetch` that waits raises."""
        if not self._loop.is_closed():
            self._wait(self._work.close())
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
        self._dns_threads.shutdown(wait=False, cancel_futures=True)  # a lookup may take minutes to time out


def _reserve_files(num_files: int) -> None:
    """Raises the limit of open files: each connection is one, and the default limit is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= num_files:
        return
    if hard != resource.RLIM_INFINITY and hard < num_files:
        raise ResourceError(
            f"{num_files} open files are needed and {hard} are allowed; "
            "raise `ulimit -Hn` or lower download.max_in_flight"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_files, hard))
