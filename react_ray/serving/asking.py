"""ask: one question to a group of processes, of which one may die or be slow.

Takes a function that sends the question to some process of the group, and raises Lost if that died; gives the answer of
the first that answers. A question whose process died is sent again, to another one; a late one is asked of a second
(pace.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from react_ray.serving.pace import Pace
from react_ray.serving.peer import Lost
from react_ray.serving.refusal import GroupUnavailable

TRIES = 3  # of a question whose process died: the second may be about to die, too
T = TypeVar("T")


async def ask(
    send: Callable[[], Awaitable[T]],
    name: str,
    pace: Pace,
    patience_s: float,
    hedges: bool,
    lives: Callable[[], Awaitable[bool]],
) -> T:
    """name: of the group, for GroupUnavailable, which is raised if all tries died, or if nobody has answered in
    patience_s and nobody who was asked lives.

    hedges: there may be a second process.
    """
    pace.asked += 1
    began = time.monotonic()
    asking = asyncio.ensure_future(_first(send, name, pace, patience_s, lives) if hedges else _again(send, name))
    try:
        while not (await asyncio.wait({asking}, timeout=patience_s))[0]:
            if not await lives():
                raise GroupUnavailable(name, f"no answer within {patience_s:g} s")
        answer = asking.result()
    finally:
        asking.cancel()
    pace.answered(time.monotonic() - began)
    return answer


async def _first(
    send: Callable[[], Awaitable[T]], name: str, pace: Pace, patience_s: float, lives: Callable[[], Awaitable[bool]]
) -> T:
    asked = {asyncio.ensure_future(_again(send, name))}
    try:
        done, _ = await asyncio.wait(asked, timeout=min(pace.late_s, patience_s / 2))
        if not done and not pace.may_ask_again():
            done, _ = await asyncio.wait(asked, timeout=patience_s / 2)
            while not done and await lives():  # its work is long, and another process would take as long
                done, _ = await asyncio.wait(asked, timeout=patience_s / 2)
        if not done:
            asked.add(asyncio.ensure_future(_again(send, name)))
        while True:
            done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            good = next((one for one in done if one.exception() is None), None)
            if good is not None or not waiting:
                return (good or done.pop()).result()
            asked = waiting
    finally:
        for one in asked:
            one.cancel()


async def _again(send: Callable[[], Awaitable[T]], name: str) -> T:
    for attempt in range(1, TRIES + 1):
        try:
            return await send()
        except Lost as error:
            if attempt == TRIES:
                raise GroupUnavailable(name, "its processes died") from error
    raise AssertionError("unreachable")
