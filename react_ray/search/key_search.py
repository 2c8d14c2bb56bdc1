"""KeySearch: finds the best k pairs of one key (image or text) in this process.

Takes the embeddings of a database and its index, if there is one. The shards are those that a retrieval opens; parts
that no index covers yet are compared exactly, so a database can be searched as soon as it is embedded. Deleted pairs
are never found.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from react_ray.artifact import Artifact
from react_ray.index.config import IndexConfig, Key, SearchParams
from react_ray.index.exact import RunningTopK
from react_ray.index.list_index import ListIndex
from react_ray.index.merge import Hits, merge
from react_ray.index.search_shards import search_shards
from react_ray.index.shard import IndexShard
from react_ray.index.shards import check_covers, open_shards, params_for, shard_places, uncovered
from react_ray.kinds import EmbeddingsFacts, IndexFacts
from react_ray.pair_id import pair_ids
from react_ray.progress import say
from react_ray.vectors import from_vectors

KEPT_BYTES = 1 << 30  # vectors up to this size stay in memory for the next search
SAMPLE_PARTS = 4  # evenly spread over the database, which sample what an unrelated pair scores
SAMPLE_ROWS = 4096  # of each of them
FEWEST = 100  # fewer vectors say nothing about the others

Block = tuple[np.ndarray, np.ndarray]  # pair_ids int64 [n], vectors float16 [n, D], NaN where there is none


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
        if self.index is not None and self.index.manifest.parents.get("embeddings") != embeddings.content:
            check_covers(self.index, embeddings)  # reads every receipt
        self.scanned = list(range(embeddings.num_parts)) if self.index is None else uncovered(self.index, embeddings)

    def search(self, queries_QD: np.ndarray, k: int) -> Hits:
        """queries: float [Q, D], unit norm. Returns Hits [Q, k], scores are cosines."""
        found = []
        if self.index is not None:
            found.append(search_shards(self._shards, queries_QD.astype(np.float32), k, self._params(self.index, k)))
        if self.scanned:
            best = RunningTopK(k)
            for ids, vectors_ND in self._blocks():
                best.update(queries_QD.astype(np.float32), ids, vectors_ND)
            found.append(best.result())
        return merge(found, k)

    def z_scores(self, queries_QD: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns how many standard deviations each score lies above the mean cosine of its query with other pairs.

        queries: float [Q, D]; scores: float32 [Q, k]. Returns float32 [Q, k], NaN where the database is too small to
        say. A cosine means little by itself, because all vectors of a CLIP lie in one narrow cone.
        """
        sample_ND = self.sample_ND
        if len(sample_ND) < FEWEST:
            return np.full(scores.shape, np.nan, np.float32)
        cosine_QN = queries_QD.astype(np.float32) @ sample_ND.T
        spread_Q1 = np.maximum(cosine_QN.std(axis=1, keepdims=True), 1e-6)
        return ((scores - cosine_QN.mean(axis=1, keepdims=True)) / spread_Q1).astype(np.float32)

    def _params(self, index: Artifact[IndexFacts], k: int) -> SearchParams:
        """What the recipe names, or what the calibration found; an index that was not calibrated is visited whole."""
        nprobe, k_factor = self.config.nprobe, self.config.k_factor
        if nprobe or not index.facts.calibration.get(self.key):
            return SearchParams(nprobe=nprobe or index.facts.num_lists, k_factor=k_factor)
        return params_for(index, self.key, self.config.recall, k)[0]

    @cached_property
    def sample_ND(self) -> np.ndarray:
        """float32: vectors of this key from parts all over the database, without rows that have none."""
        num_parts = self.embeddings.num_parts
        spread = np.linspace(0, num_parts - 1, min(SAMPLE_PARTS, num_parts)).round().astype(int)
        parts = sorted(set(spread.tolist()))
        blocks = [self._read(part)[1] for part in parts]
        rows = [block[:: -(-len(block) // SAMPLE_ROWS)] for block in blocks if len(block)]
        sample_ND = np.concatenate([np.empty((0, self.embeddings.facts.dim), np.float32), *rows]).astype(np.float32)
        return sample_ND[np.isfinite(sample_ND).all(axis=1)]

    @cached_property
    def _shards(self) -> list[IndexShard | ListIndex]:
        assert self.index is not None
        _announce(self.index.manifest.bytes // len(self.index.facts.keys), f"the shards of {self.index.uri}")
        return open_shards(shard_places(self.index, self.key), self.deleted)

    def _blocks(self) -> Iterator[Block]:
        size = 2 * self.embeddings.facts.dim * self.embeddings.rows * len(self.scanned) // self.embeddings.num_parts
        _announce(size, f"{len(self.scanned)} parts of {self.embeddings.uri} that no index covers")
        return iter(self._kept) if size <= KEPT_BYTES else map(self._read, self.scanned)

    @cached_property
    def _kept(self) -> list[Block]:
        return [self._read(part) for part in self.scanned]

    def _read(self, part: int) -> Block:
        vectors_ND = from_vectors(self.embeddings.read(part, [self.key])[self.key])
        ids = pair_ids(part, len(vectors_ND))  # a row lies where its id says
        if len(self.deleted):
            kept = ~np.isin(ids, self.deleted)
            ids, vectors_ND = ids[kept], vectors_ND[kept]
        return ids, vectors_ND


def _announce(size: int, what: str) -> None:
    """Says what a search waits for, where that takes more than a moment."""
    if size > KEPT_BYTES:
        say(f"search     reads {size / 2**30:.1f} GB, {what}")
