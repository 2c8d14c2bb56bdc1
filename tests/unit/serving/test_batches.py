"""What is asked within a moment is done together, and each asker gets its own answers."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from react_ray.serving.batches import Batches


def test_concurrent_questions_are_answered_together_and_in_order() -> None:
    calls: list[int] = []

    def work(questions: list[int]) -> list[int]:
        calls.append(len(questions))
        return [10 * question for question in questions]

    async def all_of() -> list[list[int]]:
        with ThreadPoolExecutor(1) as threads:
            batches = Batches(work, threads, 4)
            return await asyncio.gather(*(batches.ask([number, number + 1]) for number in range(5)))

    assert asyncio.run(all_of()) == [[10 * number, 10 * number + 10] for number in range(5)]
    assert calls == [4, 4, 2]


def test_several_calls_run_at_once_and_a_question_does_not_wait_for_a_call_before_it() -> None:
    together = threading.Barrier(2, timeout=60)

    def work(questions: list[int]) -> list[int]:
        together.wait()
        return questions

    async def all_of() -> None:
        with ThreadPoolExecutor(2) as threads:
            batches = Batches(work, threads, 2, calls_at_once=2)
            assert await batches.ask([1, 2, 3]) == [1, 2, 3]
            first = asyncio.ensure_future(batches.ask([4]))
            while not together.n_waiting:
                await asyncio.sleep(0)
            assert await batches.ask([5]) == [5] and await first == [4]

    asyncio.run(all_of())


def test_who_asks_little_does_not_wait_for_those_who_ask_much() -> None:
    calls: list[list[int]] = []

    def work(questions: list[int]) -> list[int]:
        calls.append(questions)
        return questions

    async def all_of() -> None:
        with ThreadPoolExecutor(1) as threads:
            batches = Batches(work, threads, 10)
            many = asyncio.ensure_future(batches.ask(list(range(30))))
            await asyncio.sleep(0)
            assert await batches.ask([100, 101]) == [100, 101]
            assert await many == list(range(30))

    asyncio.run(all_of())
    assert calls == [[100, 101], *(list(range(start, start + 10)) for start in (0, 10, 20))]


def test_who_asks_much_is_answered_though_others_ask_all_the_time() -> None:
    async def all_of() -> None:
        with ThreadPoolExecutor(1) as threads:
            batches: Batches[int, int] = Batches(lambda questions: questions, threads, 10)
            many = asyncio.ensure_future(batches.ask(list(range(30))))

            async def asks() -> None:
                while not many.done():
                    await batches.ask([100])

            await asyncio.wait_for(asyncio.gather(many, *(asks() for _ in range(20))), timeout=60)

    asyncio.run(all_of())


def test_who_has_gone_away_is_not_waited_for_and_a_failure_reaches_those_it_concerns() -> None:
    def work(questions: list[str]) -> list[str]:
        if "bad" in questions:
            raise ValueError("bad")
        return questions

    async def all_of() -> None:
        with ThreadPoolExecutor(1) as threads:
            batches = Batches(work, threads, 1)
            gone = asyncio.ensure_future(batches.ask(["gone"]))
            good, bad = asyncio.ensure_future(batches.ask(["good"])), asyncio.ensure_future(batches.ask(["bad"]))
            await asyncio.sleep(0)
            gone.cancel()
            assert await good == ["good"]
            with pytest.raises(ValueError, match="bad"):
                await bad

    asyncio.run(all_of())
