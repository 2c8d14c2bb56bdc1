"""Recall: how much of the exact answer a search found, and what each nprobe buys.

Takes Hits of a search and of exact search for the same queries; gives numbers in [0, 1]. Next: select.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from react_ray.errors import RetrievalError
from react_ray.index.config import SearchParams
from react_ray.index.merge import Hits, check_k


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


def calibrate(
    search: Callable[[SearchParams], Hits], truth: Hits, k: int, num_lists: int, enough: float = 0.995
) -> list[tuple[int, float]]:
    """(nprobe, recall@k) for nprobe 1, 2, 4, ... until recall is `enough` or all lists are visited."""
    table: list[tuple[int, float]] = []
    nprobe = 1
    while True:
        table.append((nprobe, recall_at_k(search(SearchParams(nprobe=nprobe)), truth, k)))
        if table[-1][1] >= enough or nprobe >= num_lists:
            return table
        nprobe = min(2 * nprobe, num_lists)


def nprobe_for(table: list[tuple[int, float]], recall: float) -> int:
    """The smallest measured nprobe that reaches the recall asked for."""
    for nprobe, reached in table:
        if reached >= recall:
            return nprobe
    nprobe, reached = max(table, key=lambda row: row[1])
    raise RetrievalError(
        f"recall={recall} was not reached: the best measured is {reached:.3f} at nprobe={nprobe}; "
        "ask for less, or build the index with a finer code"
    )
