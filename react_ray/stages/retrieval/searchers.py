"""Searchers: what answers all queries of a retrieval, opened once for all keys, blocks of classes and rounds.

An index is searched by actors that serve its FAISS shards; without an index, actors stream the embeddings. A small
database is searched in this process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from react_ray.artifact import Artifact
from react_ray.index.class_hits import ClassHits, class_blocks
from react_ray.index.config import IndexConfig, SearchParams
from react_ray.index.merge import Hits
from react_ray.index.shards import check_has_key, deltas, params_for
from react_ray.kinds import AllowedFacts, IndexFacts
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import is_running
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.scanners import Scanners
from react_ray.stages.retrieval.shard_actors import ShardFanOut

logger = logging.getLogger(__name__)
BLOCKS_AT_ONCE = 2
DEEPEST = 10_000  # of index.calibration_k
HITS_AT_ONCE = 1 << 24  # of a block that come here: 200 MB, and several times as much while they are stored
REDUCED_AT_ONCE = 1 << 27  # of a block that searchers reduce to the pairs of classes
SCANNED_AT_ONCE = 1 << 26  # of a pass over all embeddings: 800 MB


@dataclass(frozen=True)
class SearchPlan:
    """What a search goes through and how: an index with its target recall, or the embeddings."""

    database: Database
    index: Artifact[IndexFacts] | None  # None = exact search over the embeddings
    config: IndexConfig
    cluster: ClusterConfig
    allowed: Artifact[AllowedFacts] | None = None  # the only pairs that may be found; None = all
    hits_at_once: int = 0  # of a block of classes; 0 = one of the constants above

    def blocks(self, class_Q: np.ndarray, k: int, num_keys: int, by_class: bool) -> list[np.ndarray]:
        """Returns the rows of the queries that are searched together, whole classes each. class_Q: int64 [Q],
        ascending; k: hits of each query and key, or pairs of each class and key."""
        each = k * num_keys
        if self.index is None:
            kept_by_class = by_class and not self.cluster.gpus_per_actor  # as in EmbeddingScanner
            per_query, per_class = (0, each) if kept_by_class else (each, 0)
            return class_blocks(class_Q, per_query, self.hits_at_once or SCANNED_AT_ONCE, per_class)
        return class_blocks(class_Q, each, self.hits_at_once or (REDUCED_AT_ONCE if by_class else HITS_AT_ONCE))

    def parents(self) -> dict[str, Artifact[Any]]:
        found: dict[str, Artifact[Any]] = {} if self.allowed is None else {"allowed": self.allowed}
        if self.index is None:
            return found | {"exact": self.database.embeddings}
        return found | {"index": self.index} | {f"delta{i}": delta for i, delta in enumerate(deltas(self.index))}


class Searchers:
    """`with Searchers(plan) as searchers: searchers.search("image", queries, k)`.

    `open` starts the actors, or the first search, so that what is finished starts none. Several threads may search when
    they are open.
    """

    def __init__(self, plan: SearchPlan) -> None:
        self.plan = plan
        self._opened = ExitStack()
        self._scanners: Scanners | None = None
        self._shards: ShardFanOut | None = None
        self._params: dict[tuple[str, int], SearchParams] = {}

    def open(self, keys: Iterable[str]) -> None:
        """Starts the first actors, which takes seconds. RetrievalError if the index lacks one of the keys."""
        if self.plan.index is None:
            self._open_scanners()
            return
        for key in keys:
            check_has_key(self.plan.index, key)
        self._open_shards(self.plan.index)

    @property
    def blocks_at_once(self) -> int:
        """The number of blocks that are searched at a time. A pass over all embeddings is long enough by itself."""
        return 1 if self._here or self.plan.index is None else BLOCKS_AT_ONCE

    def search(self, key: str, queries_QD: np.ndarray, k: int) -> Hits:
        """queries: float32 [Q, D]; returns Hits [Q, k]."""
        if self.plan.index is None:
            return self._open_scanners().search(key, queries_QD, k)
        return self._open_shards(self.plan.index).search(key, queries_QD, k, self.params(key, k))

    def search_classes(self, key: str, queries_QD: np.ndarray, class_Q: np.ndarray, most: int) -> ClassHits:
        """class_Q: int64 [Q], the class of each query. Returns the `most` best pairs of each class."""
        if self.plan.index is None:
            return self._open_scanners().search_classes(key, queries_QD, class_Q, most)
        shards = self._open_shards(self.plan.index)
        return shards.search_classes(key, queries_QD, class_Q, most, self.params(key, most))

    def params(self, key: str, k: int) -> SearchParams:
        """The parameters of the index for k hits. Warns once where no measured ones reach the target recall."""
        assert self.plan.index is not None
        if (key, k) not in self._params:
            self._params[key, k] = search_params(self.plan.index, key, k, self.plan.config)
        return self._params[key, k]

    def _open_scanners(self) -> Scanners:
        if self._scanners is None:
            plan = self.plan
            of = plan.database.embeddings, plan.cluster, plan.database.deleted, plan.allowed, self._here
            self._scanners = self._opened.enter_context(Scanners(*of))
        return self._scanners

    def _open_shards(self, index: Artifact[IndexFacts]) -> ShardFanOut:
        if self._shards is None:
            plan = self.plan
            of = index, index.facts.keys, plan.cluster, plan.database.deleted, plan.allowed, self._here
            self._shards = self._opened.enter_context(ShardFanOut(*of))
        return self._shards

    @property
    def _here(self) -> bool:
        return self.plan.database.is_small and not is_running()

    def __enter__(self) -> Searchers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def search_params(index: Artifact[IndexFacts], key: str, k: int, config: IndexConfig) -> SearchParams:
    """The parameters that the recipe names, or those that the calibration found for its target recall.

    Logs a warning where no measured parameters reach that recall.
    """
    if config.nprobe and (config.k_factor or not index.facts.calibration.get(key)):
        return SearchParams(nprobe=config.nprobe, k_factor=config.k_factor)
    params, reached = params_for(index, key, config.recall, k)
    if config.nprobe or config.k_factor:
        return config.named(params)
    deepest = max((row["k"] for row in index.facts.calibration.get(key, [])), default=k)
    if deepest < k and index.facts.num_lists:
        logger.warning(
            "recall was measured up to k=%d, for k=%d it is a guess; %s",
            deepest,
            k,
            "build with index.calibration_k=10000" if deepest < DEEPEST else "no index measures more hits",
        )
    if reached < config.recall:
        logger.warning(
            "index.recall=%g is not reached for %s keys at k=%d: the best that was measured is %.3f; use "
            "retrieve.search=exact, or kind=flat",
            config.recall,
            key,
            k,
            reached,
        )
    return params
