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
        self._kept: OrderedDict[K, tuple[Future[V], float]] = OrderedDict()
        self._total = 0.0
        self._lock = Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Returns the value of this key, made now if it is not kept. What `make` raises is raised and not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                waits: Future[V] = found[0]
            else:
                waits = Future()
                self._kept[key] = waits, 0.0
        if found is not None:
            return waits.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                self._kept.pop(key, None)
            waits.set_exception(error)
            raise
        waits.set_result(value)
        with self._lock:
            if key in self._kept:
                self._kept[key] = waits, self._size(value)
                self._total += self._kept[key][1]
                while self._total > self._most and len(self._kept) > 1:
                    _, (_, size) = self._kept.popitem(last=False)
                    self._total -= size
        return value

    def peek(self, key: K) -> V | None:
        """Returns the value of this key if it is kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is None or not found[0].done():
                return None
            self._kept.move_to_end(key)
            return found[0].result()

    def put(self, key: K, value: V) -> None:
        self.get(key, lambda: value)

    def drop(self, is_old: Callable[[K], bool]) -> None:
        with self._lock:
            for key in [key for key in self._kept if is_old(key)]:
                self._total -= self._kept.pop(key)[1]
