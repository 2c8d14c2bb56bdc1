"""Plans an index before anything starts: its kind, its numbers of lists and shards, and what they cost.

Takes the number of vectors, D and an IndexConfig; gives an IndexPlan. Bytes are those of FAISS's formats; seconds are
those of one core at 50 GFLOP/s in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

from react_ray.errors import ConfigError
from react_ray.index.config import AUTO, FLAT, IVF_RABITQ, IVF_SQ8, IndexConfig

FLOP_PER_S = 50e9  # of one core
QUERY_S = 0.016  # one held-out query at all settings that are measured
SMALL = 200_000  # vectors: exact search takes milliseconds, so there is no reason to approximate
FLAT_RECALL = 0.985  # 8-bit codes reach this for text queries; a higher recall needs float vectors
VECTORS_PER_LIST = 40  # in the training sample; FAISS asks for 39
ROUNDED_UP = 1.44  # FAISS holds the codes of a list in a power of two of bytes: 1 / ln 2 times as many on average
BLOCK = 32  # codes that fast-scan reads at once: each list is padded to a multiple of it
SEARCHER_BYTES = 2 << 30  # of a process that searches ivf-rabitq, besides: 1 GiB of mapped codes, and a batch


@dataclass(frozen=True)
class IndexPlan:
    """The plan for one key; bytes and seconds are those of all its shards."""

    kind: str
    num_vectors: int
    dim: int
    num_lists: int
    num_shards: int
    train_sample: int
    hot_bytes: int  # in memory while the index is searched
    cold_bytes: int  # memory-mapped
    disk_bytes: int
    build_bytes: int  # in memory while one shard is built
    core_seconds: float

    def lines(self, num_keys: int = 1, metadata_bytes: int = 0) -> list[str]:
        """Returns the lines that are printed before the start, for all keys."""
        gb = 1 / 2**30
        lists = f", {self.num_lists:,} lists" if self.num_lists else ""
        return [
            f"index: {self.kind}{lists} over {self.num_vectors:,} vectors of dimension {self.dim}, "
            f"{self.num_shards} shards",
            f"index: {num_keys} x {self.hot_bytes * gb:.2f} GB of memory to search, "
            f"{(num_keys * self.disk_bytes + metadata_bytes) * gb:.2f} GB of disk, "
            f"{self.build_bytes * gb:.2f} GB of memory to build a shard, "
            f"about {num_keys * self.core_seconds:,.0f} core-seconds",
        ]


def plan_index(num_vectors: int, dim: int, config: IndexConfig, num_parts: int) -> IndexPlan:
    """num_vectors: those of one key, in num_parts parts, of which each shard gets at least one. The plan does not
    depend on the machine."""
    if num_vectors < 1:
        raise ConfigError("there are no vectors to index; embed pairs first, or take the key out of index.keys")
    kind = _kind(num_vectors, dim, config)
    num_lists = (config.num_lists or lists_for(num_vectors)) if kind in (IVF_SQ8, IVF_RABITQ) else 0
    each_build = {IVF_RABITQ: 2.2 * dim + 600, IVF_SQ8: 2.5 * dim + 32}.get(kind, 9 * dim + 32)
    room = max(0.25, config.build_memory_gb - 8 * 2**17 * dim / 2**30) * 2**30  # what a part in memory leaves
    num_shards = config.num_shards or min(num_parts, max(1, ceil(num_vectors * each_build / room)))
    hot, cold, disk = _bytes(kind, num_vectors, dim, num_lists, num_shards)
    if hot > config.memory_gb * 2**30:
        raise ConfigError(
            f"index.kind={kind!r} takes {hot / 2**30:.2f} GB of memory to search {num_vectors:,} vectors and "
            f"index.memory_gb is {config.memory_gb:g}; raise it, or use kind=auto"
        )
    assigned = 2 * dim * (10 * sqrt(num_lists) if num_lists >= 1024 else num_lists) / FLOP_PER_S
    sample = min(config.train_sample, num_vectors, VECTORS_PER_LIST * num_lists if num_lists else config.train_sample)
    truth = 2 * config.calibration_queries * 2 * dim / FLOP_PER_S * (kind != FLAT)
    measured = 2 * config.calibration_queries * QUERY_S * (kind != FLAT)
    each_s = assigned + truth + 40e-9 * dim
    return IndexPlan(
        kind,
        num_vectors,
        dim,
        num_lists,
        num_shards,
        max(1, sample),
        hot,
        cold,
        disk,
        int(each_build * ceil(num_vectors / num_shards)),
        round(num_vectors * each_s + 8 * sample * assigned + measured, 1),
    )


def lists_for(num_vectors: int) -> int:
    """Returns a power of two near 4 * sqrt(N), at most 2**18."""
    power = 4
    while power < 18 and 2 ** (power + 0.5) < 4 * sqrt(num_vectors):
        power += 1
    return min(2**power, max(1, num_vectors // 4))


def _kind(num_vectors: int, dim: int, config: IndexConfig) -> str:
    if config.kind != AUTO:
        return config.kind
    room = config.memory_gb * 2**30
    fits = _bytes(FLAT, num_vectors, dim, 0, 1)[0] <= room
    if fits and (num_vectors <= SMALL or config.recall > FLAT_RECALL):
        return FLAT
    for kind in (IVF_RABITQ, IVF_SQ8):
        if _bytes(kind, num_vectors, dim, lists_for(num_vectors), 1)[0] <= room:
            return kind
    needed = _bytes(IVF_RABITQ, num_vectors, dim, lists_for(num_vectors), 1)[0]
    raise ConfigError(
        f"no kind of index keeps {num_vectors:,} vectors of dimension {dim} in index.memory_gb={config.memory_gb:g}; "
        f"ivf-rabitq needs {needed / 2**30:.2f} GB: raise it"
    )


def _bytes(kind: str, num_vectors: int, dim: int, num_lists: int, num_shards: int) -> tuple[int, int, int]:
    """Returns (hot, cold) bytes of all shards in one process, and those of their files.

    ivf-rabitq shards are joined list by list; shards of other kinds each have their own centroids. A factory string is
    assumed to keep 4-byte floats.
    """
    if kind == IVF_RABITQ:
        padding = min(BLOCK / 2 * num_lists, (BLOCK - 1) * num_vectors)
        codes, ids, centroids = (num_vectors + padding) * (dim / 8 + 8), 8 * num_vectors, 4 * dim * num_lists
        cold = num_vectors * (dim + 8)
        # Twice the ids: the lists of shards are appended to each other.
        return int(ROUNDED_UP * codes + 2 * ids + centroids), cold, int(codes + ids + centroids) + cold
    each, centroids = (dim, 4 * dim * num_lists * num_shards) if kind == IVF_SQ8 else (4 * dim, 0)
    hot = num_vectors * (each + 8) + centroids
    return hot, 0, hot
