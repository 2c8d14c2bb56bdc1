"""LocalGroup: a ShardGroup of this process, whose work is done in threads so that the event loop never waits."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from react_ray.cancellation import in_thread
from react_ray.serving.groups import Asked, ShardGroup
from react_ray.serving.stamp import Stamp


class LocalGroup:
    def __init__(self, shards: ShardGroup, threads: Executor) -> None:
        self.shards, self.threads = shards, threads
        self.name = f"group-{shards.number}"

    async def answer(self, asked: Asked) -> Any:
        return await in_thread(self.threads, self.shards.answer, asked)

    async def prepare(self, stamp: Stamp) -> None:
        await in_thread(self.threads, self.shards.prepare, stamp)

    async def replicas(self) -> int | None:
        return None
