"""A group of shards that can be down, or slow, when a test wants it."""

from __future__ import annotations

import asyncio
from queue import Queue
from threading import Event
from typing import Any

from react_ray.recipe import Recipe
from react_ray.serving.groups import Asked, ShardGroup
from react_ray.serving.local_group import LocalGroup
from react_ray.serving.refusal import GroupUnavailable
from react_ray.serving.service import Service


class UnsteadyGroup(LocalGroup):
    """is_up: whether it answers. gate: closed, an answer waits; `entered` has one entry for each question."""

    def __init__(self, group: LocalGroup) -> None:
        super().__init__(group.shards, group.threads)
        self.is_up, self.gate, self.entered = True, Event(), Queue[str]()
        self.gate.set()

    async def answer(self, asked: Asked) -> Any:
        if not self.is_up:
            raise GroupUnavailable(self.name, "no process")
        self.entered.put(self.name)
        await asyncio.to_thread(self.gate.wait)
        return await super().answer(asked)


def unsteady(recipe: Recipe, count: int = 1) -> tuple[Service, UnsteadyGroup]:
    """A service of `count` groups, the last of which is unsteady."""
    service = Service(recipe)
    shards = [ShardGroup(recipe.database, number, count, service.cache) for number in range(count)]
    *others, last = (LocalGroup(one, service.threads) for one in shards)
    group = UnsteadyGroup(last)
    service.groups = [*others, group]
    return service, group
