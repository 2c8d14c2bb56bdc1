"""ShardGroup: the shards of one group, opened in this process, for any number of states of the database.

Takes an Asked; gives what index/search_shards.py wants of one searcher. A new state is opened beside the old one, which
is closed when nothing has asked for it for a while. Deletions and filters narrow open shards instead of opening others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np

from react_ray.artifact import Artifact, open_artifact
from react_ray.errors import ReactRayError
from react_ray.index.allowed import Allowed
from react_ray.index.config import Key
from react_ray.index.deleted import deleted_pairs
from react_ray.index.list_index import ListIndex
from react_ray.index.search_shards import answer
from react_ray.index.shard import IndexShard
from react_ray.index.shard_cache import ShardCache
from react_ray.index.shards import ShardPlace, open_shards, uncovered
from react_ray.kinds import EMBEDDINGS, IMAGES, INDEX, PAIRS, EmbeddingsFacts, IndexFacts, NoFacts, PairsFacts
from react_ray.manifest import MANIFEST
from react_ray.search.filtered import Filters
from react_ray.search.scan import Scan
from react_ray.serving.cutting import cut
from react_ray.serving.lru import Lru
from react_ray.serving.stamp import Stamp, stamp_of
from react_ray.storage import join, open_storage

SCAN = "scan"  # the method that compares exactly with the parts that no index covers
NARROWED = 64  # filters whose shards are kept narrowed: a bit per pair each
KEPT_S = 120.0  # how long a state stays open after the last question about it

Shards = Sequence[IndexShard | ListIndex]


class StateGone(ReactRayError):
    """The database is no more in the state that was asked for."""


@dataclass(frozen=True)
class Asked:
    """A question to one group: what `search_shards.answer` takes, or k for SCAN."""

    stamp: Stamp
    key: Key
    filters: tuple[str, ...]
    method: str
    queries_QD: np.ndarray
    args: tuple[Any, ...]
    excluded: bytes = b""  # of int64 pair_ids that are not found, as if they were deleted


class Group(Protocol):
    """A group of shards, wherever it is."""

    name: str

    async def answer(self, asked: Asked) -> Any:
        """GroupUnavailable if no process of the group answers; StateGone if the database changed."""

    async def prepare(self, stamp: Stamp) -> None:
        """Returns when the group has opened this state."""

    async def replicas(self) -> int | None:
        """The number of its processes; None if there is no more than this one."""


@dataclass(frozen=True)
class Opened:
    """The artifacts of one state, without deletions."""

    embeddings: Artifact[EmbeddingsFacts]
    pairs: Artifact[PairsFacts]
    images: Artifact[NoFacts] | None
    index: Artifact[IndexFacts] | None

    @classmethod
    def at(cls, uri: str) -> Opened:
        images, index = join(uri, IMAGES.name), join(uri, INDEX.name)
        return cls(
            open_artifact(join(uri, EMBEDDINGS.name), EMBEDDINGS),
            open_artifact(join(uri, PAIRS.name), PAIRS),
            open_artifact(images, IMAGES) if open_storage(images).exists(MANIFEST) else None,
            open_artifact(index, INDEX) if open_storage(index).exists(MANIFEST) else None,
        )


class State:
    """The open shards of one group in one state. Each key opens at its first question, or by `open`."""

    def __init__(
        self,
        opened: Opened,
        places: dict[Key, list[ShardPlace]],
        deleted: np.ndarray,
        deletions: str,
        cache: ShardCache | None,
    ) -> None:
        """deletions: the stamp of `deleted`, which the shards leave out from the start. cache: of shards on S3."""
        self.opened, self.deleted, self.deletions = opened, deleted, deletions
        missing = list(range(opened.embeddings.num_parts))
        if opened.index is not None:
            missing = uncovered(opened.index, opened.embeddings)
        keys: tuple[Key, ...] = ("image", "text")
        covered = opened.index.facts.keys if opened.index is not None else []
        every = list(range(opened.embeddings.num_parts))
        self.scans = {key: Scan(opened.embeddings, key, missing if key in covered else every) for key in keys}
        self.shards: dict[Key, Shards] = {key: open_shards(some, deleted, cache=cache) for key, some in places.items()}
        self.used = time.monotonic()


class ShardGroup:
    def __init__(self, uri: str, number: int = 0, count: int = 1, cache: ShardCache | None = None) -> None:
        """uri: of the database; number and count: which of how many groups this is; cache: of shards on S3."""
        self.uri, self.number, self.count, self.cache = uri, number, count, cache
        self._states: dict[str, State] = {}
        self._deleted: dict[str, np.ndarray] = {}  # by the second half of a stamp
        self._allowed: Lru[tuple[str, tuple[str, ...]], Allowed] = Lru(NARROWED)
        self._narrowed: Lru[tuple[Any, ...], Shards] = Lru(NARROWED)
        self._opening: dict[Stamp, Future[None]] = {}
        self._lock = Lock()

    def prepare(self, stamp: Stamp) -> None:
        """Opens this state, unless it is open; StateGone if the database is in another. Callers wait for one."""
        with self._lock:
            if stamp.vectors in self._states and stamp.deleted in self._deleted:
                return
            waits, mine = self._opening.get(stamp), Future[None]()
            if waits is None:
                self._opening[stamp] = mine
        if waits is not None:
            return waits.result()
        try:
            self._open(stamp)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(None)
        finally:
            with self._lock:
                del self._opening[stamp]

    def answer(self, asked: Asked) -> Any:
        self.prepare(asked.stamp)
        state, deleted = self._states[asked.stamp.vectors], self._deleted[asked.stamp.deleted]
        state.used = time.monotonic()
        allowed = self._allowed_of(asked, state)
        if asked.excluded:
            deleted = np.union1d(deleted, np.frombuffer(asked.excluded, np.int64))
        if asked.method == SCAN:
            return state.scans[asked.key].search(asked.queries_QD, asked.args[0], deleted, allowed)
        shards = state.shards[asked.key]
        if allowed is not None or asked.excluded or asked.stamp.deleted != state.deletions:
            place = (asked.stamp, asked.key, asked.filters, asked.excluded)
            shards = self._narrowed.get(place, lambda: [one.narrowed(deleted, allowed) for one in shards])
        return answer(shards, asked.method, asked.queries_QD, *asked.args)

    def _allowed_of(self, asked: Asked, state: State) -> Allowed | None:
        if not asked.filters:
            return None
        opened = state.opened

        def allowed() -> Allowed:
            return Filters.over(list(asked.filters), opened.pairs, opened.embeddings, opened.images).allowed()

        return self._allowed.get((asked.stamp.vectors, asked.filters), allowed)

    def _open(self, stamp: Stamp) -> None:
        if stamp_of(self.uri) != stamp:
            raise StateGone(f"{self.uri} has changed; ask again")
        deleted = deleted_pairs(self.uri)
        state = self._states.get(stamp.vectors)
        if state is None or not np.isin(state.deleted, deleted).all():  # a deletion was taken back
            opened = Opened.at(self.uri)
            places = cut(opened.index, self.count)[self.number]
            state = State(opened, places, deleted, stamp.deleted, self.cache)
        if stamp_of(self.uri) != stamp:  # it changed in between
            raise StateGone(f"{self.uri} has changed; ask again")
        with self._lock:
            self._states[stamp.vectors], self._deleted[stamp.deleted] = state, deleted
            now = time.monotonic()
            for name, old in list(self._states.items()):
                if name != stamp.vectors and now - old.used > KEPT_S:
                    del self._states[name]
                    self._narrowed.drop(lambda place, name=name: place[0].vectors == name)  # type: ignore[misc]
