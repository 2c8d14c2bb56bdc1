"""ServeGroup: a group whose processes are the replicas of a Ray Serve deployment.

Serve starts them, looks after them, and says where they are; questions go to them directly (question_server.py).
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from ray.exceptions import ActorDiedError
from ray.serve.handle import DeploymentHandle

from react_ray.serving.asking import ask
from react_ray.serving.groups import Asked
from react_ray.serving.pace import Pace
from react_ray.serving.peers import Peers
from react_ray.serving.question_server import Address
from react_ray.serving.stamp import Stamp

PATIENCE_S = 20.0  # a replica that died is back before, also on a busy machine: 10 s were too few there
OPENING_S = 3600.0  # shards of 100 GB come from S3 in less
WHERE_S = 2.0


class ServeGroup:
    def __init__(self, name: str, handle: DeploymentHandle[Any], timeout_s: float, hedges: bool) -> None:
        """hedges: the deployment may have more than one replica."""
        self.name, self._handle, self._hedges = name, handle, hedges
        self._patience_s = min(PATIENCE_S, 0.7 * timeout_s)  # then it is asked whether it lives
        self._peers, self._pace = Peers(self._where), Pace()

    async def answer(self, asked: Asked) -> Any:
        processes: set[Address] = set()

        async def send() -> Any:
            return await self._peers.ask("answer", asked, processes)

        async def lives() -> bool:
            return await self._peers.lives(processes)

        return await ask(send, self.name, self._pace, self._patience_s, self._hedges, lives)

    async def prepare(self, stamp: Stamp) -> None:
        async def send() -> None:  # so that whichever is asked next has opened it
            await self._peers.ask_all("prepare", stamp)

        async def lives() -> bool:
            return False

        await ask(send, self.name, Pace(), OPENING_S, False, lives)

    async def replicas(self) -> int | None:
        status = await asyncio.to_thread(serve.status)
        app = status.applications[self._handle.app_name or "default"]
        running: dict[Any, int] = dict(app.deployments[self.name].replica_states)
        return running.get("RUNNING", 0)

    async def _where(self) -> tuple[list[Address], bool]:
        """Returns the processes that say in time where they are, and whether the others have all died.

        results_async would fail for all of them if one stood still.
        """
        said = self._handle.broadcast("where")
        found = await asyncio.to_thread(said.results, timeout_s=WHERE_S, return_exceptions=True)
        are_all = all(isinstance(one, (Address, ActorDiedError)) for one in found)
        return [one for one in found if isinstance(one, Address)], are_all
