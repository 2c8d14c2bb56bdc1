"""Peers: the processes of a group, as they come and go, and which of them a question is for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from react_ray.serving.peer import Lost, Peer
from react_ray.serving.question_server import Address

logger = logging.getLogger(__name__)
LOOK_S = 5.0  # between two looks where the processes of a group are, unless one was lost
AGAIN_S = 0.2  # after a look that found none


class Peers:
    """Everything is called from one event loop."""

    def __init__(self, where: Callable[[], Awaitable[tuple[Iterable[Address], bool]]]) -> None:
        """where: says which processes of the group there are now, and whether these are all; it may fail."""
        self._where = where
        self._peers: dict[Address, Peer] = {}  # the one that was asked last is the last
        self._look: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    async def ask(self, method: str, question: Any, asked: set[Address]) -> Any:
        """Asks the process that has the fewest questions, and waits while none can be reached. Raises as Peer.ask does.

        asked: processes that were asked before, which are asked again only if there are no others; the one that is
        asked is added.
        """
        while True:
            await self._there()
            peer = min(self._peers.values(), key=lambda one: (one.address in asked, one.in_flight + one.forsaken))
            self._peers[peer.address] = self._peers.pop(peer.address)
            asked.add(peer.address)
            try:
                return await self._answer(peer, method, question)
            except Lost as lost:
                if lost.was_asked:
                    raise
                logger.warning("%s", lost)
                if not self._peers:
                    await asyncio.sleep(AGAIN_S)

    async def ask_all(self, method: str, question: Any) -> None:
        """Asks every process that there is now. What one of them raises is raised, but Lost only if all were lost."""
        await self._there()
        asking = [self._answer(peer, method, question) for peer in self._peers.values()]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        for one in [one for one in answers if not isinstance(one, Lost)] or answers:
            if isinstance(one, BaseException):
                raise one

    async def _answer(self, peer: Peer, method: str, question: Any) -> Any:
        try:
            return await peer.ask(method, question)
        except Lost:
            self._leave(peer.address)
            self._look_now()
            raise

    async def _there(self) -> None:
        """Returns when there is a process."""
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())
        while not self._peers:
            await asyncio.shield(self._look_now())
            if not self._peers:
                await asyncio.sleep(AGAIN_S)

    async def lives(self, asked: Iterable[Address]) -> bool:
        """Whether one of these processes still answers."""
        return any(await asyncio.gather(*(peer.lives() for at in asked if (peer := self._peers.get(at)))))

    async def _follow(self) -> None:
        """Looks again and again while there are questions, also long ones to a process whose machine has gone."""
        while True:
            await self._look_now()
            await asyncio.sleep(LOOK_S)
            if not any(peer.in_flight for peer in self._peers.values()):
                return

    def _look_now(self) -> asyncio.Task[None]:
        """What several wait for is done once."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._find())
        return self._look

    async def _find(self) -> None:
        try:
            found, are_all = await self._where()
        except Exception as error:  # no process has started yet, or one of them says nothing
            logger.debug("where the processes of a group are is not known: %s", error)
            return
        there = set(found)
        for address in self._peers.keys() - there if are_all else ():
            self._leave(address)
        for address in there:
            self._peers.setdefault(address, Peer(address)).forsaken = 0

    def _leave(self, address: Address) -> None:
        if peer := self._peers.pop(address, None):
            peer.leave()
