"""Values are made once, by whoever comes first, and the least used ones make room."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from react_ray.serving.lru import Lru


def test_the_value_that_was_used_least_lately_makes_room() -> None:
    made: list[str] = []
    kept: Lru[str, str] = Lru(2)

    def value(key: str) -> str:
        def make() -> str:
            made.append(key)
            return key.upper()

        return kept.get(key, make)

    assert [value(key) for key in "abacab"] == list("ABACAB")
    assert made == ["a", "b", "c", "b"]
    assert kept.peek("a") == "A" and kept.peek("c") is None
    kept.drop(lambda key: key == "a")
    assert kept.peek("a") is None and kept.peek("b") == "B"


def test_sizes_count_and_the_last_value_stays_however_large() -> None:
    kept: Lru[int, int] = Lru(10, float)
    for size in (4, 5, 6, 50):
        kept.put(size, size)
    assert [kept.peek(size) for size in (4, 5, 6, 50)] == [None, None, None, 50]


def test_threads_wait_for_the_one_that_makes_the_value() -> None:
    kept: Lru[str, int] = Lru(8)
    made: list[int] = []
    together = Barrier(4)

    def ask() -> int:
        together.wait()
        return kept.get("key", lambda: made.append(1) or 7)  # type: ignore[func-returns-value]

    with ThreadPoolExecutor(4) as pool:
        assert [one.result() for one in [pool.submit(ask) for _ in range(4)]] == [7] * 4
    assert made == [1]


def test_a_failure_is_not_kept() -> None:
    kept: Lru[str, int] = Lru(8)

    def fails() -> int:
        raise OSError("busy")

    with pytest.raises(OSError, match="busy"):
        kept.get("key", fails)
    assert kept.get("key", lambda: 3) == 3
