"""Scan: compares queries exactly with the vectors of some parts of a database, which no index covers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from react_ray.artifact import Artifact
from react_ray.cancellation import stop_if_cancelled
from react_ray.index.allowed import Allowed
from react_ray.index.config import Key
from react_ray.index.exact import RunningTopK
from react_ray.index.merge import Hits, no_hits
from react_ray.kinds import EmbeddingsFacts
from react_ray.pair_id import pair_ids
from react_ray.progress import say
from react_ray.vectors import from_vectors

KEPT_BYTES = 1 << 30  # vectors up to this size stay in memory for the next search

Block = tuple[np.ndarray, np.ndarray]  # pair_ids int64 [n], vectors float16 [n, D], NaN where there is none


class Scan:
    def __init__(self, embeddings: Artifact[EmbeddingsFacts], key: Key, parts: Sequence[int]) -> None:
        self.embeddings, self.key, self.parts = embeddings, key, parts

    def search(
        self, queries_QD: np.ndarray, k: int, deleted: np.ndarray | None = None, allowed: Allowed | None = None
    ) -> Hits:
        """queries: float [Q, D], unit norm; deleted: sorted pair_ids that are not found; allowed: None = all. Returns
        Hits [Q, k]."""
        if not self.parts:
            return no_hits(len(queries_QD), k)
        best = RunningTopK(k)
        for ids, vectors_ND in self._blocks():
            stop_if_cancelled()
            if allowed is not None or (deleted is not None and len(deleted)):
                wanted = np.ones(len(ids), bool) if allowed is None else allowed.contains(ids)
                wanted &= ~np.isin(ids, [] if deleted is None else deleted)
                ids, vectors_ND = ids[wanted], vectors_ND[wanted]
            best.update(queries_QD.astype(np.float32), ids, vectors_ND)
        return best.result()

    def _blocks(self) -> Iterator[Block]:
        size = 2 * self.embeddings.facts.dim * self.embeddings.rows * len(self.parts) // self.embeddings.num_parts
        announce(size, f"{len(self.parts)} parts of {self.embeddings.uri} that no index covers")
        return iter(self._kept) if size <= KEPT_BYTES else self._read()

    @cached_property
    def _kept(self) -> list[Block]:
        return list(self._read())

    def _read(self) -> Iterator[Block]:
        for part in self.parts:
            stop_if_cancelled()
            yield read_block(self.embeddings, self.key, part)


def read_block(embeddings: Artifact[EmbeddingsFacts], key: Key, part: int) -> Block:
    vectors_ND = from_vectors(embeddings.read(part, [key])[key])
    return pair_ids(part, len(vectors_ND)), vectors_ND  # a row lies where its id says


def announce(size: int, what: str) -> None:
    """Says what a search waits for, where that takes more than a moment."""
    if size > KEPT_BYTES:
        say(f"search     reads {size / 2**30:.1f} GB, {what}")
