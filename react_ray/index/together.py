"""Several ivf-rabitq shards that share their lists, searched as if they were one.

Takes shards, queries and parameters with k_factor > 0; gives Hits. Next: merge.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np

from react_ray.index.cold_codes import CODES_AT_ONCE, SPARE, gathered, ranked
from react_ray.index.config import SearchParams
from react_ray.index.exact import as_queries
from react_ray.index.list_shard import ListShard
from react_ray.index.merge import Hits, no_hits
from react_ray.index.quantizer import DEFAULT_NPROBE


def search_together(
    shards: Sequence[ListShard],
    queries_QD: np.ndarray,
    k: int,
    params: SearchParams,
    allowed: Sequence[np.ndarray | None] | None = None,
) -> Hits:
    """`ListShard.search` with k_factor > 0 over shards that share their lists: what one shard of all their rows would answer.

    Lists are found once. The hot codes of all shards propose k * k_factor candidates; cold codes rank these in float32,
    and the best of them exactly: a score depends on neither the batch nor the shards.
    """
    exact_QD = as_queries(queries_QD, shards[0].dim)
    rough_QD = np.ascontiguousarray(exact_QD, dtype=np.float32)
    nprobe = min(params.nprobe or DEFAULT_NPROBE, shards[0].num_lists)
    candidates = min(max(k, round(k * params.k_factor)), sum(shard.num_vectors for shard in shards))
    score_QP, probes_QP = shards[0].coarse.search(rough_QD, nprobe)
    filters = [shard.alive(one) for shard, one in zip(shards, allowed or [None] * len(shards), strict=True)]
    found = [shard.propose(rough_QD, candidates, score_QP, probes_QP, one) for shard, one in zip(shards, filters, strict=True)]
    scores, rows = (np.concatenate(both, axis=1) for both in zip(*found, strict=True))
    which = np.repeat(np.arange(len(shards), dtype=np.int16), candidates)[None].repeat(len(rows), axis=0)
    if len(shards) > 1:
        kept = np.argpartition(np.where(rows >= 0, -scores, np.inf), candidates - 1, axis=1)[:, :candidates]
        kept.sort(axis=1)  # by shard
        rows, which = np.take_along_axis(rows, kept, axis=1), np.take_along_axis(which, kept, axis=1)
    scaled_QD = (exact_QD * shards[0].step_D).astype(np.float32)
    fetch = min(k + SPARE, candidates)
    hits = no_hits(len(exact_QD), k)
    at_once = max(1, CODES_AT_ONCE // (candidates * shards[0].dim))

    def rank(first: int, last: int) -> None:
        codes = np.empty((min(at_once, last - first) * candidates, shards[0].dim), np.uint8)
        floats = np.empty(codes.shape, np.float32)  # one buffer: fresh memory costs more than what is done with it
        for start in range(first, last, at_once):
            block = slice(start, min(start + at_once, last))
            row, shard, valid = rows[block], which[block], rows[block] >= 0
            codes_BCD = gathered(shards, shard, row, codes)
            floats_BCD = floats[: row.size].reshape(codes_BCD.shape)
            np.copyto(floats_BCD, codes_BCD)
            score = np.matmul(floats_BCD, scaled_QD[block][:, :, None])[:, :, 0]
            few = np.argpartition(np.where(valid, -score, np.inf), fetch - 1, axis=1)[:, :fetch]
            row, shard = (np.take_along_axis(array, few, axis=1) for array in (row, shard))
            found = ranked(shards, shard, row, exact_QD[block], k)
            hits.scores[block], hits.pair_ids[block] = found.scores, found.pair_ids

    bounds = np.linspace(0, len(exact_QD), min(faiss.omp_get_max_threads(), len(exact_QD)) + 1).astype(int).tolist()
    if len(bounds) == 2:
        rank(0, len(exact_QD))
    else:
        with ThreadPoolExecutor(len(bounds) - 1) as pool:
            list(pool.map(rank, bounds, bounds[1:]))
    return hits
