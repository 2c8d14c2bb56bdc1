"""Reads and writes the files that measure an index's recall: held-out queries, and their exact hits in each shard."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from react_ray.artifact import Artifact
from react_ray.index.exact import RunningTopK
from react_ray.index.merge import Hits, merge
from react_ray.index.recall import DEPTHS
from react_ray.index.shards import shard_name
from react_ray.kinds import IndexFacts
from react_ray.parquet import parquet_bytes
from react_ray.storage import Storage
from react_ray.vectors import as_vectors, from_vectors

TRUTH = np.dtype([("score", "<f4"), ("pair_id", "<i8")])


def depths(calibration_k: int) -> list[int]:
    """Returns how deep the stored truths are: one hit more than is measured, because a query's own pair is left out."""
    return [depth for depth in DEPTHS if depth <= calibration_k + 1]


def queries_name(key: str) -> str:
    return f"queries-{key}.parquet"


def write_queries(storage: Storage, key: str, queries: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """queries: kind -> (pair_ids int64 [Q], vectors float [Q, D] holding float16 values)."""
    tables = [
        pa.table(
            {
                "pair_id": ids,
                "queries": pa.array([kind] * len(ids), pa.string()),
                "embedding": as_vectors(vector_QD.astype(np.float16)),
            }
        )
        for kind, (ids, vector_QD) in queries.items()
    ]
    storage.write(queries_name(key), parquet_bytes(pa.concat_tables(tables)))


def read_queries(storage: Storage, key: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns kind -> (pair_ids int64 [Q], vectors float32 [Q, D]) of the held-out queries, without kinds that have no
    query."""
    table = pq.read_table(io.BytesIO(storage.read(queries_name(key))))
    found = {}
    for kind in ("image", "text"):
        rows = table.filter(pc.equal(table["queries"], kind))
        if len(rows):
            found[kind] = (rows["pair_id"].to_numpy(), from_vectors(rows["embedding"]).astype(np.float32))
    return found


def read_truth(index: Artifact[IndexFacts], key: str, kind: str, depth: int) -> Hits:
    """Returns the exact hits of the held-out queries over all shards of a key; depth is one of DEPTHS."""
    found = []
    for shard in range(index.facts.num_shards):
        part = index.facts.keys.index(key) * index.facts.num_shards + shard
        rows = np.load(
            io.BytesIO(index.read_file(part, f"{shard_name(key, shard)}.truth-{kind}-{depth}.npy")), allow_pickle=False
        )
        found.append(Hits(np.ascontiguousarray(rows["score"]), np.ascontiguousarray(rows["pair_id"])))
    return merge(found, depth)


class Truth:
    """Collects the exact hits of the held-out queries over one shard; each query is searched once, at its greatest
    depth."""

    def __init__(self, queries: dict[str, tuple[np.ndarray, np.ndarray]], depths: list[int]) -> None:
        """queries: from read_queries. depths: ascending keys of DEPTHS, which says how many of the first queries each
        is for."""
        self._sizes = {kind: len(vectors_QD) for kind, (_, vectors_QD) in queries.items()}
        self._depths = depths
        self._bands: dict[int, tuple[slice, np.ndarray, RunningTopK]] = {}
        for depth, deeper in zip(depths, [*depths[1:], None], strict=True):
            band = slice(0 if deeper is None else DEPTHS[deeper], DEPTHS[depth])
            asked = [vectors_QD[band] for _, vectors_QD in queries.values()]
            if sum(map(len, asked)):
                self._bands[depth] = band, np.concatenate(asked), RunningTopK(depth)

    def update(self, pair_ids: np.ndarray, vectors_ND: np.ndarray) -> None:
        for _, queries_QD, best in self._bands.values():
            best.update(queries_QD, pair_ids, vectors_ND)

    def files(self) -> dict[str, bytes]:
        """Returns the files truth-{kind}-{depth}.npy of all kinds and depths."""
        found: dict[tuple[str, int], list[Hits]] = {}
        for band_depth, (band, _, best) in reversed(self._bands.items()):
            first, hits = 0, best.result()
            for kind, size in self._sizes.items():
                rows = slice(first, first + len(range(size)[band]))
                first = rows.stop
                for depth in self._depths:
                    if depth <= band_depth:
                        found.setdefault((kind, depth), []).append(
                            Hits(hits.scores[rows, :depth], hits.pair_ids[rows, :depth])
                        )
        return {
            f"truth-{kind}-{depth}.npy": _truth_bytes(
                np.concatenate([one.scores for one in hits]), np.concatenate([one.pair_ids for one in hits])
            )
            for (kind, depth), hits in found.items()
        }


def _truth_bytes(scores: np.ndarray, pair_ids: np.ndarray) -> bytes:
    rows = np.empty(scores.shape, TRUTH)
    rows["score"], rows["pair_id"] = scores, pair_ids
    sink = io.BytesIO()
    np.save(sink, rows)
    return sink.getvalue()
