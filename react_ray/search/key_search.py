"""KeySearch: finds the best k pairs of one key (image or text) in this process.

Takes the embeddings of a database and its index, if there is one. The shards are those that a retrieval opens; parts
that no index covers yet are compared exactly, so a database can be searched as soon as it is embedded. Deleted pairs
are never found.
"""

from __future__ import annotations

from functools import cached_property, lru_cache, partial

import numpy as np

from react_ray.artifact import Artifact
from react_ray.index.config import FLAT, IndexConfig, Key, SearchParams
from react_ray.index.list_index import ListIndex
from react_ray.index.merge import Hits, merge
from react_ray.index.search_shards import search_shards
from react_ray.index.shard import IndexShard
from react_ray.index.shards import check_covers, open_shards, params_for, shard_places, uncovered
from react_ray.kinds import EmbeddingsFacts, IndexFacts
from react_ray.search.scan import Scan, announce, read_block

SAMPLE_PARTS = 4  # evenly spread over the database, which sample what an unrelated pair scores
SAMPLE_ROWS = 4096  # of each of them
KEPT_PARAMS = 1000  # recalls and depths that were asked for
FEWEST = 100  # fewer vectors say nothing about the others


class KeySearch:
    """Shards are opened, or vectors read, at the first search."""

    def __init__(
        self,
        embeddings: Artifact[EmbeddingsFacts],
        index: Artifact[IndexFacts] | None,
        key: Key,
        deleted: np.ndarray,
        config: IndexConfig | None = None,
    ) -> None:
        """config: how an approximate index is searched, by its target recall or by nprobe. deleted: int64, sorted."""
        self.embeddings, self.key, self.deleted, self.config = embeddings, key, deleted, config or IndexConfig()
        self.index = index if index is not None and key in index.facts.keys else None
        if self.index is not None:  # a calibration has thousands of rows, and a search reads it
            self._params = lru_cache(KEPT_PARAMS)(partial(params_for, self.index, self.key))
        if self.index is not None and self.index.manifest.parents.get("embeddings") != embeddings.content:
            check_covers(self.index, embeddings)  # reads every receipt
        self.scanned = list(range(embeddings.num_parts)) if self.index is None else uncovered(self.index, embeddings)

    def search(self, queries_QD: np.ndarray, k: int) -> Hits:
        """queries: float [Q, D], unit norm. Returns Hits [Q, k], scores are cosines."""
        found = []
        if self.index is not None:
            found.append(search_shards(self._shards, queries_QD.astype(np.float32), k, self.params(k)[0]))
        if self.scanned:
            found.append(self._scan.search(queries_QD, k, self.deleted))
        return merge(found, k)

    def z_scores(self, queries_QD: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns how many standard deviations each score lies above the mean cosine of its query with other pairs.

        queries: float [Q, D]; scores: float32 [Q, k]. Returns float32 [Q, k], NaN where the database is too small to
        say. A cosine means little by itself, because all vectors of a CLIP lie in one narrow cone.
        """
        if len(self.sample_ND) < FEWEST:
            return np.full(scores.shape, np.nan, np.float32)
        mean_D, covariance_DD = self._moments
        queries = queries_QD.astype(np.float64)
        variance_Q1 = ((queries @ covariance_DD) * queries).sum(axis=1, keepdims=True)
        spread_Q1 = np.maximum(np.sqrt(np.maximum(variance_Q1, 0)), 1e-6)
        return ((scores - (queries @ mean_D)[:, None]) / spread_Q1).astype(np.float32)

    def params(self, k: int, recall: float | None = None) -> tuple[SearchParams, float | None]:
        """What the recipe names, or what the calibration found, and the recall that was measured with it, None if it
        was not. An index that was not calibrated is visited whole.

        recall: the target; None = the recipe's.
        """
        if self.index is None:
            return SearchParams(), 1.0
        facts, own = self.index.facts, self.config if recall is None else IndexConfig()
        table, exact = facts.calibration.get(self.key, []), 1.0 if facts.kind == FLAT else None
        if not table or (own.nprobe and own.k_factor):
            return SearchParams(nprobe=own.nprobe or facts.num_lists, k_factor=self.config.k_factor), exact
        params, reached = self._params(recall or own.recall, k)
        if own.nprobe or own.k_factor:
            return own.named(params), exact
        return params, reached if facts.kind == FLAT or k <= max(row["k"] for row in table) else None

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 [D] and [D, D]: mean and covariance of the sample, which are those of its cosines with any query."""
        mean_D = self.sample_ND.mean(axis=0, dtype=np.float64)
        apart_ND = self.sample_ND - mean_D.astype(np.float32)
        return mean_D, (apart_ND.T @ apart_ND).astype(np.float64) / len(apart_ND)

    @cached_property
    def sample_ND(self) -> np.ndarray:
        """float32: vectors of this key from parts all over the database, without rows that have none."""
        num_parts = self.embeddings.num_parts
        spread = np.linspace(0, num_parts - 1, min(SAMPLE_PARTS, num_parts)).round().astype(int)
        parts = sorted(set(spread.tolist()))
        blocks = [self._without_deleted(part) for part in parts]
        rows = [block[:: -(-len(block) // SAMPLE_ROWS)] for block in blocks if len(block)]
        sample_ND = np.concatenate([np.empty((0, self.embeddings.facts.dim), np.float32), *rows]).astype(np.float32)
        return sample_ND[np.isfinite(sample_ND).all(axis=1)]

    @cached_property
    def _shards(self) -> list[IndexShard | ListIndex]:
        assert self.index is not None
        announce(self.index.manifest.bytes // len(self.index.facts.keys), f"the shards of {self.index.uri}")
        return open_shards(shard_places(self.index, self.key), self.deleted)

    @cached_property
    def _scan(self) -> Scan:
        return Scan(self.embeddings, self.key, self.scanned)

    def _without_deleted(self, part: int) -> np.ndarray:
        ids, vectors_ND = read_block(self.embeddings, self.key, part)
        return vectors_ND[~np.isin(ids, self.deleted)] if len(self.deleted) else vectors_ND
