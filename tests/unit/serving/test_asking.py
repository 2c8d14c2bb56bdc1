"""A question whose process died is asked again, a late one of a second process, and silence names the group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from react_ray.serving.asking import TRIES, ask
from react_ray.serving.pace import EXTRA, FEWEST, Pace
from react_ray.serving.peer import Lost
from react_ray.serving.refusal import GroupUnavailable


async def nobody() -> bool:
    return False


def asked(
    send: Callable[[], Awaitable[Any]],
    pace: Pace | None = None,
    patience_s: float = 30.0,
    lives: Callable[[], Awaitable[bool]] = nobody,
) -> Any:
    async def once() -> Any:
        return await ask(send, "group-1", pace or Pace(), patience_s, True, lives)

    return asyncio.run(once())


@pytest.mark.parametrize("deaths", range(TRIES))
def test_a_question_outlives_the_deaths_of_its_processes(deaths: int) -> None:
    left = [Lost("it died", was_asked=True)] * deaths

    async def send() -> str:
        if left:
            raise left.pop()
        return "answer"

    assert asked(send) == "answer"


def test_a_group_that_keeps_dying_is_named() -> None:
    async def send() -> str:
        raise Lost("it died", was_asked=True)

    with pytest.raises(GroupUnavailable, match=r"group-1 does not answer .*ask again in a moment"):
        asked(send)


def test_a_wrong_question_is_asked_once() -> None:
    times = []

    async def send() -> str:
        times.append(1)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        asked(send)
    assert len(times) == 1


def test_silence_names_the_group() -> None:
    async def send() -> None:
        await asyncio.Event().wait()

    with pytest.raises(GroupUnavailable, match="group-1"):
        asked(send, patience_s=0.01)


def test_a_long_answer_of_a_process_that_lives_is_awaited() -> None:
    looked = asyncio.Event()

    async def send() -> str:
        await looked.wait()
        return "late"

    async def lives() -> bool:
        looked.set()
        return True

    assert asked(send, patience_s=0.01, lives=lives) == "late"


def paced() -> Pace:
    """Of a group whose answers take a moment."""
    pace = Pace()
    pace.asked = 16 * FEWEST
    for _ in range(FEWEST):
        pace.answered(1e-4)
    return pace


def test_a_long_question_is_asked_of_no_second_process_while_the_first_lives() -> None:
    sent: list[int] = []
    looks = iter([True, True])
    enough = asyncio.Event()

    async def send() -> str:
        sent.append(1)
        await enough.wait()
        return "late"

    async def lives() -> bool:
        if next(looks, None) is None:
            enough.set()
        return True

    pace = paced()
    while pace.may_ask_again():
        pass
    assert asked(send, pace, patience_s=0.02, lives=lives) == "late" and sent == [1]


def unless_first(sent: list[int]) -> Callable[[], Awaitable[str]]:
    """Answers the second question; the first waits for ever. sent: the numbers of both."""

    async def send() -> str:
        sent.append(len(sent))
        if sent == [0]:
            await asyncio.Event().wait()
        return "of the second"

    return send


def test_a_late_question_is_asked_of_a_second_process_and_the_first_answer_counts() -> None:
    sent: list[int] = []
    assert asked(unless_first(sent), paced()) == "of the second" and sent == [0, 1]


def test_a_question_without_an_answer_is_asked_twice_though_many_were() -> None:
    sent: list[int] = []
    pace = paced()
    while pace.may_ask_again():
        pass
    assert asked(unless_first(sent), pace, patience_s=2.0) == "of the second" and sent == [0, 1]


def test_few_questions_are_asked_twice_however_slow_all_are() -> None:
    pace = paced()
    before = pace.asked
    for _ in range(1000):
        pace.asked += 1
        pace.may_ask_again()
    assert pace.extra <= EXTRA * (before + 1000)
    fresh = Pace()
    assert fresh.late_s == float("inf") and not fresh.may_ask_again()
