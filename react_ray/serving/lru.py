"""Lru: values that were made once and are kept while they are used; each is made by one thread, others wait for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lru(Generic[K, V]):
    def __init__(self, most: float, size: Callable[[V], float] = lambda value: 1) -> None:
        """most: the sum of sizes up to which values are kept; the one that was used last is always kept."""
        self._most, self._size = most, size
        self._kept: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._being_made: dict[K, Future[V]] = {}
        self._total = 0.0
        self._lock = Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Returns the value of this key, made now if it is not kept. What `make` raises is raised and not kept."""
        with self._lock:
            if key in self._kept:
                return self._used(key)
            waits = self._being_made.get(key)
            if waits is None:
                mine: Future[V] = Future()
                self._being_made[key] = mine
        if waits is not None:
            return waits.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                self._is_wanted(key, mine)
            mine.set_exception(error)
            raise
        with self._lock:
            if self._is_wanted(key, mine):
                self._keep(key, value)
        mine.set_result(value)
        return value

    def peek(self, key: K) -> V | None:
        """Returns the value of this key if it is kept."""
        with self._lock:
            return self._used(key) if key in self._kept else None

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._keep(key, value)

    def drop(self, is_old: Callable[[K], bool]) -> None:
        with self._lock:
            for key in [key for key in self._kept if is_old(key)]:
                self._total -= self._kept.pop(key)[1]
            for key in [key for key in self._being_made if is_old(key)]:
                del self._being_made[key]  # those that wait for it get it, and it is not kept

    def _is_wanted(self, key: K, mine: Future[V]) -> bool:
        """Forgets that it is being made. False if it was dropped meanwhile."""
        is_mine = self._being_made.get(key) is mine
        if is_mine:
            del self._being_made[key]
        return is_mine

    def _used(self, key: K) -> V:
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _keep(self, key: K, value: V) -> None:
        if key in self._kept:
            return
        size = self._size(value)
        self._kept[key] = value, size
        self._total += size
        while self._total > self._most and len(self._kept) > 1:
            self._total -= self._kept.popitem(last=False)[1][1]
