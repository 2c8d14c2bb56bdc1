"""Service: answers requests over the groups of a database, and follows the database as it changes.

Next: finding.py searches; classes.py, written_recipe.py and measured_recall.py answer the other routes; app.py is HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from react_ray.cancellation import in_thread
from react_ray.errors import BackboneError, ReactRayError
from react_ray.index.quantizer import faiss_threads
from react_ray.index.shard_cache import ShardCache
from react_ray.recipe import Recipe
from react_ray.serving.encoder import Encoder
from react_ray.serving.fetched import Fetched
from react_ray.serving.groups import Group, ShardGroup, StateGone
from react_ray.serving.local_group import LocalGroup
from react_ray.serving.refusal import Refused
from react_ray.serving.stamp import stamp_of
from react_ray.serving.stored_prompts import StoredPrompts
from react_ray.serving.view import View

logger = logging.getLogger(__name__)
CHANGING_S = (0.0, 0.0, 0.05, 0.2, 0.5, 1.0, 2.0)  # before each try over a database that changes meanwhile
T = TypeVar("T")


class Service:
    """`await start()` before the first request. All methods are called from one event loop."""

    def __init__(self, recipe: Recipe, groups: Sequence[Group] | None = None) -> None:
        """groups: None = this process searches all shards."""
        self.recipe, self.config = recipe, recipe.serve
        all_cpus = os.cpu_count() or 1
        self.num_cpus = recipe.cluster.num_cpus or all_cpus
        self.threads = ThreadPoolExecutor(
            2 * all_cpus + 2, "serve", initializer=faiss_threads, initargs=(self.num_cpus,)
        )
        self.cache = ShardCache(recipe.cluster.shard_cache_dir, int(recipe.cluster.shard_cache_gb * 2**30))
        self.groups: Sequence[Group] = [_own_group(recipe, self.threads, self.cache)] if groups is None else groups
        self.fetched = Fetched(recipe) if self.config.fetch_urls else None
        self.stored_prompts = StoredPrompts(recipe)
        self.view: View | None = None
        self.problem = ""  # why the database could not be opened again
        self._watch: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()  # a hundred requests of a state that has gone open the next one once

    async def start(self) -> None:
        """Opens the database and all groups, and loads the text tower if it is there."""
        self.view = view = await self.in_thread(View, self.recipe, self.groups, self.cache)
        self.encoder = Encoder(view.database.model, self.threads, self.num_cpus)
        await asyncio.gather(*(group.prepare(view.stamp) for group in self.groups))
        try:
            await self.encoder.texts(["a photo"])
        except BackboneError as error:  # of published vectors, say: pairs and vectors can be asked for all the same
            logger.warning("neither texts nor images can be asked for: %s", error)
        self._watch = asyncio.create_task(self._follow())

    async def warm(self) -> None:
        """Loads what a first image would wait for. A model that embeds no images says so when it is asked."""
        if "image" in self.now.plans:
            with suppress(ReactRayError):
                await self.encoder.warm_images()

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self.view is not None:
            self.encoder.close()
        if self.fetched is not None:
            self.fetched.close()
        self.threads.shutdown(wait=False, cancel_futures=True)

    @property
    def now(self) -> View:
        if self.view is None:
            raise Refused("the database is being opened; ask again in a moment", 503, "not_ready", retry_s=2)
        return self.view

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await in_thread(self.threads, work, *arguments)

    async def answered(self, work: Callable[[View], Awaitable[T]], timeout_ms: int | None = None) -> T:
        """Does the work over one view of the database, within its time; over a newer one if that has gone meanwhile."""
        most_s = self.time_of(timeout_ms)
        try:
            return await asyncio.wait_for(self._tried(work), most_s)
        except asyncio.TimeoutError as error:
            if most_s < self.config.timeout_s:
                said = f"this took longer than timeout_ms={timeout_ms}; ask for less, or for more time"
                raise Refused(said, 408, "timeout", field="timeout_ms") from error
            said = f"this took longer than {self.config.timeout_s:g} s; ask for less, or raise serve.timeout_s"
            raise Refused(said, 504, "timeout") from error

    def time_of(self, timeout_ms: int | None) -> float:
        """The seconds in which a request is answered that asks for this time; None = for no less than others."""
        return self.config.timeout_s if timeout_ms is None else min(self.config.timeout_s, timeout_ms / 1000)

    async def _tried(self, work: Callable[[View], Awaitable[T]]) -> T:
        for attempt, wait_s in enumerate(CHANGING_S):
            with suppress(StateGone):
                if attempt:
                    await asyncio.sleep(wait_s)  # what is being written changes several times in a moment
                    await self.look()
                return await work(self.now)
        raise Refused("the database changes faster than it can be opened; ask again", 503, "changing", retry_s=2)

    async def look(self) -> bool:
        """Follows the database if it has changed; returns whether it has."""
        async with self._looking:
            if await self.in_thread(stamp_of, self.recipe.database) == self.now.stamp:
                self.problem = ""
                return False
            view = await self.in_thread(View, self.recipe, self.groups, self.cache)
            view.database.model = self.now.database.model  # which is the same, and loaded
            await asyncio.gather(*(group.prepare(view.stamp) for group in self.groups))
            self.view, self.problem = view, ""
            return True

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.config.reload_s)
            try:
                await self.look()
            except Exception as error:  # as while it is written, or while a group starts: the next look may succeed
                if self.problem != str(error):
                    logger.warning("the state of %s before is served on: %s", self.recipe.database, error)
                self.problem = str(error)


def _own_group(recipe: Recipe, threads: ThreadPoolExecutor, cache: ShardCache) -> LocalGroup:
    return LocalGroup(ShardGroup(recipe.database, cache=cache), threads)
