"""URLs in; the bytes of each, or why there are none, out. A URL never raises: what the web does is a status.

Next: fetch_loop.py, which does the work; then image.py, which looks at the bytes.
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
from react_ray.web.addresses import Resolver
from react_ray.web.url_policy import UrlPolicy
from react_ray.web.fetch_config import FetchConfig
from react_ray.web.fetch_loop import FetchLoop
from react_ray.web.fetch_result import FetchResult, OnDone
from react_ray.web.local_url import LOCAL_SCHEMES, local_scheme, read_local
from react_ray.web.web_url import UrlRefused, WebUrl

__all__ = ["FetchConfig", "FetchResult", "Fetcher", "OnDone"]

T = TypeVar("T")

OTHER_FILES = 128  # what a process has open besides its connections


class Fetcher:
    """Fetches in a thread of its own. Connections, names, robots.txt and limits are kept from call to call.

    Several threads may call at once: their requests share all limits, and the slow end of one call is filled by the next.
    `resolver` is a seam for tests; it is made in the fetcher's thread.
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
        """One result per URL, in their order; equal URLs are asked once.

        `on_done(row, fetched)` is called as each arrives, in the fetcher's thread: it holds up all requests until it
        returns, so let it hand its work to other threads. What it raises ends the call and is raised here.
        """
        return self._fetch(urls, on_done, keep=True)

    def fetch_each(self, urls: Sequence[str | None], on_done: OnDone) -> None:
        """As `fetch`, but nothing is kept of what was handed to `on_done`: memory holds what is in flight."""
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
        self._dns_threads.shutdown(wait=False, cancel_futures=True)  # a name server may take minutes to give up


def _reserve_files(num_files: int) -> None:
    """Each connection is an open file; systems allow 1,024 unless asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= num_files:
        return
    if hard != resource.RLIM_INFINITY and hard < num_files:
        raise ResourceError(
            f"{num_files} open files are needed and {hard} are allowed; raise `ulimit -Hn` or lower download.max_in_flight"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_files, hard))
