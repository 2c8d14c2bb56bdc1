"""Recall: how much of the exact answer a search found, and which parameters reach the recall that is asked for.

Takes Hits of a search and of exact search for the same queries; gives numbers in [0, 1], a table of them, and the choice
from it. Next: select.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from math import ceil
from typing import Any

import numpy as np

from react_ray.errors import RetrievalError
from react_ray.index.config import SearchParams
from react_ray.index.merge import NO_PAIR, Hits, check_k

KS = (10, 100, 1000)
DEPTHS = {101: 1 << 30, 1001: 64}  # hits of the truth, and for how many queries at most: the deepest is the dearest
K_FACTORS = {10: (2.0, 4.0, 10.0, 20.0, 40.0, 80.0, 160.0), 100: (2.0, 4.0, 8.0, 16.0, 32.0), 1000: (0.0,)}  # 0: cold codes are scanned
MOST_LISTS = 128  # or an eighth: who visits more has too few lists or too coarse a code
ENOUGH = 0.002  # of recall, below which one more step is not worth measuring


def recall_at_k(found: Hits, truth: Hits, k: int) -> float:
    """Share of the true k best pairs of each query that are among the k found, over all queries.

    Queries with fewer than k true hits count with those they have.
    """
    check_k(k)
    assert len(found.scores) == len(truth.scores), "found and truth answer different queries"
    if truth.scores.shape[1] < k:
        raise RetrievalError(
            f"recall@{k} needs a truth of k >= {k}, not {truth.scores.shape[1]}; search exactly with it"
        )
    query, pair_ids, _, _ = Hits(truth.scores[:, :k], truth.pair_ids[:, :k]).rows()
    if not len(query):
        raise RetrievalError("recall of nothing: exact search found no pair; check that the index holds vectors")
    found_query, found_ids, _, _ = Hits(found.scores[:, :k], found.pair_ids[:, :k]).rows()
    distinct, code = np.unique(np.concatenate([pair_ids, found_ids]), return_inverse=True)
    true_key = query.astype(np.int64) * len(distinct) + code[: len(query)]
    found_key = found_query.astype(np.int64) * len(distinct) + code[len(query) :]
    return float(np.isin(true_key, found_key).mean())


def without(hits: Hits, pair_ids: np.ndarray, k: int) -> Hits:
    """The first k hits of each query once its own pair (int64 [Q]) is left out: as if it had been held out of the index."""
    own = hits.pair_ids == pair_ids[:, None]
    order = np.argsort(own, axis=1, kind="stable")[:, :k]
    found, scores = (np.take_along_axis(np.where(own, gone, column), order, axis=1) for column, gone in (
        (hits.pair_ids, NO_PAIR), (hits.scores, -np.inf)
    ))
    return Hits(scores.astype(np.float32), found)


def calibrate(
    search: Callable[[int, int, SearchParams], Hits], truths: list[Hits], own: np.ndarray, family: str, num_lists: int
) -> list[dict[str, Any]]:
    """What each setting finds of the truth: rows of k, nprobe, k_factor, ef_search, recall.

    search(n, k, params) answers the first n held-out queries; truths: of all or the first of them, the deeper the later;
    own: int64 [Q], the pair that each query is one side of, left out of both. family: "ivf-rabitq", "ivf" or "hnsw". A ladder ends where its next step gained less than ENOUGH.
    """
    table: list[dict[str, Any]] = []
    for k in KS:
        truth = next((one for one in truths if one.scores.shape[1] > k), None if k > KS[0] else truths[-1])
        if truth is None:
            break
        num = len(truth.scores)
        wanted = without(truth, own[:num], k)
        reached = 0.0
        for k_factor in K_FACTORS[k] if family == "ivf-rabitq" else (0.0,):
            before, last = reached, -1.0
            for params in _ladder(family, num_lists, k_factor):
                asked = replace(params, k_factor=params.k_factor * k / (k + 1))  # k * k_factor candidates, as at k
                recall = recall_at_k(without(search(num, k + 1, asked), own[:num], k), wanted, k)
                table.append({"k": k} | asdict(params) | {"recall": round(recall, 5)})
                if recall - last < ENOUGH:
                    break
                last = recall
            reached = max(reached, last, recall)
            if reached - before < ENOUGH:
                break
    return table


def _ladder(family: str, num_lists: int, k_factor: float) -> list[SearchParams]:
    if family == "hnsw":
        return [SearchParams(ef_search=2**power) for power in range(4, 12)]
    most = min(num_lists, max(MOST_LISTS, num_lists // 8))
    least = max(1, num_lists // 2048)
    steps = [2**power for power in range(num_lists.bit_length()) if least <= 2**power < most] + [most]
    return [SearchParams(nprobe=step, k_factor=k_factor) for step in steps]


def choose(tables: list[list[dict[str, Any]]], recall: float, k: int, dim: int, rows_per_list: float) -> tuple[SearchParams, float]:
    """The cheapest setting that every table (one per kind of query) says reaches the recall at k, and what it reaches.

    For k between two measured ones the larger counts; beyond the largest, as many more lists are visited as k is larger.
    Where nothing reaches it, the best that was measured: compare the second value.
    """
    measured = sorted({row["k"] for table in tables for row in table})
    if not measured:
        raise RetrievalError("this index was not calibrated; set index.nprobe, or build it with index.calibration_queries > 0")
    at = next((value for value in measured if value >= k), measured[-1])
    reached: dict[SearchParams, list[float]] = {}
    for table in tables:
        for row in table:
            if row["k"] == at:
                params = SearchParams(row["nprobe"], row["k_factor"], row["ef_search"])
                reached.setdefault(params, []).append(row["recall"])
    common = {params: min(values) for params, values in reached.items() if len(values) == len(tables)}
    enough = [params for params, value in common.items() if value >= recall]
    if enough:
        best = min(enough, key=lambda params: (_cost(params, at, dim, rows_per_list), params.nprobe))
    else:
        best = max(common, key=lambda params: (common[params], -params.nprobe))
    found = common[best]
    if k > at and best.nprobe:
        best = replace(best, nprobe=ceil(best.nprobe * k / at))
    return best, found


def _cost(params: SearchParams, k: int, dim: int, rows_per_list: float) -> float:
    """Bytes that one query reads, roughly: hot codes of the visited lists and re-ranked cold codes, or all cold codes.

    Weights by judgement: 1-bit codes count 3 times (arithmetic besides reading), re-ranked rows 4 times (they lie apart).
    """
    visited = params.nprobe * rows_per_list
    if params.ef_search:
        return params.ef_search * dim
    return visited * dim * 3 / 8 + 4 * params.k_factor * k * dim if params.k_factor else visited * dim
