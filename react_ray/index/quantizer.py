"""The trained part of an index, shared by all its shards, and the random sample that it is trained on.

Takes float16 vectors of any number of parts; gives the bytes of an empty trained FAISS index (None for "flat", which
has nothing to train). Because every shard starts from these bytes, a vector gets the same code and the same list in
whatever shard it lands. Next: shard.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np

from react_ray.errors import ArtifactCorrupt, ConfigError, RetrievalError
from react_ray.index.config import FLAT, IndexConfig
from react_ray.index.exact import finite_rows


def train(sample_ND: np.ndarray, config: IndexConfig, seed: int, num_threads: int = 1) -> bytes | None:
    """sample float32 [N, D] of unit vectors (rows beyond config.train_sample are not used).

    IVF lists come from spherical k-means. Raises ConfigError if the kind is unknown or the sample has fewer vectors
    than the kind has lists.
    """
    if config.kind == FLAT:
        return None
    sample_ND = np.ascontiguousarray(sample_ND[: config.train_sample], dtype=np.float32)
    index = empty_index(config.kind, sample_ND.shape[1])
    ivf = inverted_lists(index)
    if ivf is not None:
        if len(sample_ND) < ivf.nlist:
            raise ConfigError(
                f"index.kind={config.kind!r} has {ivf.nlist} lists, but there are only {len(sample_ND)} vectors to "
                f"train them on; use at most {max(1, len(sample_ND) // 39)} lists (39 vectors each), or kind=flat"
            )
        ivf.cp.spherical = True
        ivf.cp.seed = seed
        ivf.cp.min_points_per_centroid = 1  # fewer than 39 is the user's choice, no reason to print
        ivf.nprobe = min(config.nprobe, ivf.nlist)
    with threads(num_threads):
        try:
            index.train(sample_ND)
        except RuntimeError as error:
            raise ConfigError(
                f"index.kind={config.kind!r} cannot be trained on {len(sample_ND)} vectors ({_reason(error)}); "
                "raise index.train_sample or use a simpler kind"
            ) from error
    return faiss.serialize_index(index).tobytes()


def empty_index(kind: str, dim: int) -> faiss.Index:
    """An untrained index for inner products; ConfigError if FAISS does not know the kind."""
    if kind == FLAT:
        return faiss.IndexFlatIP(dim)
    try:
        return faiss.index_factory(dim, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(
            f"index.kind={kind!r} is no FAISS index for inner products in {dim} dimensions ({_reason(error)}); "
            'use "flat" or a factory string such as "IVF1024,SQ8"'
        ) from error


def inverted_lists(index: faiss.Index) -> faiss.IndexIVF | None:
    """The IVF part of an index, or None if it has none."""
    try:
        return faiss.extract_index_ivf(index)
    except RuntimeError:
        return None


def from_payload(payload: bytes | np.ndarray) -> faiss.Index:
    """Bytes to a FAISS index; ArtifactCorrupt if they are not those of a whole index."""
    try:
        return faiss.deserialize_index(np.frombuffer(payload, dtype=np.uint8))
    except (RuntimeError, MemoryError, ValueError) as error:
        raise ArtifactCorrupt(
            f"{len(payload)} bytes are not a FAISS index ({_reason(error)}); delete the index and build it again"
        ) from error


class RunningSample:
    """A uniform random sample of `size` vectors that does not depend on the order or the split of the parts.

    Every pair draws a number from its id and the seed; the smallest numbers stay.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self._draws: list[np.ndarray] = []
        self._pair_ids: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []

    def update(self, pair_ids: np.ndarray, vectors_ND: np.ndarray) -> None:
        pair_ids, vectors_ND = finite_rows(np.asarray(pair_ids, dtype=np.int64), vectors_ND)
        draws = _draw(pair_ids, self.seed)
        kept = np.lexsort((pair_ids, draws))[: self.size]
        self._draws.append(draws[kept])
        self._pair_ids.append(pair_ids[kept])
        self._vectors.append(vectors_ND[kept])
        if sum(map(len, self._draws)) > 2 * self.size:
            self._shrink()

    def result(self) -> np.ndarray:
        """float32 [min(size, seen), D], ordered by pair_id."""
        if not self._vectors:
            raise RetrievalError("no embeddings to sample from; run the embed stage on at least one part")
        self._shrink()
        order = np.argsort(self._pair_ids[0], kind="stable")
        return self._vectors[0][order].astype(np.float32)

    def _shrink(self) -> None:
        draws, pair_ids = np.concatenate(self._draws), np.concatenate(self._pair_ids)
        kept = np.lexsort((pair_ids, draws))[: self.size]
        self._draws, self._pair_ids = [draws[kept]], [pair_ids[kept]]
        self._vectors = [np.concatenate(self._vectors)[kept]]


def _draw(pair_ids: np.ndarray, seed: int) -> np.ndarray:
    """uint64 of each pair_id, by the finaliser of splitmix64 (Steele et al. 2014)."""
    z = pair_ids.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(31))


@contextmanager
def threads(num_threads: int) -> Iterator[None]:
    """FAISS runs on this many threads inside; the number is the process's, so it is put back."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(num_threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _reason(error: Exception) -> str:
    """The last words of a FAISS exception, without its C++ signature."""
    return str(error).strip().splitlines()[-1].split("cpp:")[-1].strip() if str(error) else type(error).__name__
