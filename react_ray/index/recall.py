"""Measures recall, the share of the exact hits that a search found, and chooses the cheapest parameters for a target
recall.

Takes Hits of a search and of exact search for the same queries; gives numbers in [0, 1], a table of them, and the
parameters chosen from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from math import ceil, log
from typing import Any

import numpy as np

from react_ray.errors import RetrievalError
from react_ray.index.config import IVF_RABITQ, SearchParams
from react_ray.index.merge import NO_PAIR, Hits, check_k

KS = (10, 100, 1000, 10_000)
DEPTHS = {101: 1 << 30, 1001: 64, 10_001: 16}  # exact hits per query -> queries at most: deep truths are expensive
K_FACTORS = {  # 0: all cold codes of the visited lists are compared
    10: (2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 17.0, 20.0, 28.0, 40.0, 56.0, 80.0, 112.0, 160.0),
    100: (2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 22.0, 32.0),
    1000: (0.0,),
    10_000: (0.0,),
}
# Shares of the lists: visiting fewer is not worth measuring (nor as few as do not hold k pairs), and whoever must visit
# more has too few lists or too coarse a code, or should search exactly. MOST_LISTS holds where it is more.
LEAST_SHARE = 1 / 2048
MOST_LISTS = 128
MOST_SHARE = {10: 1 / 8, 100: 1 / 8, 1000: 1 / 8, 10_000: 1 / 4}
ENOUGH = 0.002  # gain of recall below which the next step is not measured


def recall_at_k(found: Hits, truth: Hits, k: int) -> float:
    """Returns the share of the true k best pairs that are among the k found, over all queries.

    A query with fewer than k true hits counts with those that it has.
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
    """Returns the first k hits of each query without its own pair (int64 [Q]), as if the pair were not in the index."""
    own = hits.pair_ids == pair_ids[:, None]
    width = own.shape[1]
    at = np.where(own.any(axis=1), own.argmax(axis=1), width)[:, None]  # a query finds its own pair once
    place = np.arange(min(k, width))
    kept = place + (place >= at)
    gone = kept == width
    found, scores = (
        np.take_along_axis(column, np.where(gone, 0, kept), axis=1) for column in (hits.pair_ids, hits.scores)
    )
    return Hits(np.where(gone, -np.inf, scores).astype(np.float32), np.where(gone, NO_PAIR, found))


@dataclass(frozen=True)
class HeldOut:
    """Held-out queries of one kind: the functions that search them, and their exact hits.

    search(n, k, params) and propose(n, count, nprobe) answer the first n queries; propose returns scores in the order
    in which 1-bit codes rank (ivf-rabitq only). truths: the exact hits of all queries or of the first ones, by
    ascending depth. own: int64 [Q], the pair from which each query was taken; it is left out of the found and of the
    exact hits.
    """

    search: Callable[[int, int, SearchParams], Hits]
    propose: Callable[[int, int, int], Hits]
    truths: list[Hits]
    own: np.ndarray
    _proposed: dict[int, Hits] = field(default_factory=dict, init=False, repr=False)

    def truth(self, k: int) -> Hits | None:
        """Returns the exact hits for k, or None if no query has k of them; the smallest k is always measured."""
        if k == KS[0]:
            return self.truths[0]
        return next((one for one in self.truths if one.scores.shape[1] > k and one.valid[:, k].any()), None)

    def recalls(self, family: str, k: int, params: SearchParams) -> dict[SearchParams, float]:
        """Returns the recall of these parameters, for ivf-rabitq with each of K_FACTORS: one search proposes for all of
        them."""
        truth = self.truth(k)
        assert truth is not None
        own = self.own[: len(truth.scores)]
        wanted = without(truth, own, k)
        if family != IVF_RABITQ or not all(K_FACTORS[k]):
            return {params: recall_at_k(without(self.search(len(own), k + 1, params), own, k), wanted, k)}
        most = round(k * K_FACTORS[k][-1])
        near = without(self._near(len(own), params.nprobe), own, most)
        true = np.stack(
            [
                np.isin(found, asked)
                for found, asked in zip(near.pair_ids, np.where(wanted.valid, wanted.pair_ids, -2), strict=True)
            ]
        )
        found = {}
        for k_factor in K_FACTORS[k]:
            some = near.scores[:, : round(k * k_factor)]
            if k < some.shape[1]:
                at = np.argpartition(-some, k - 1, axis=1)[:, :k]
                num_found = np.take_along_axis(true, at, axis=1).sum()
            else:
                num_found = true[:, : some.shape[1]].sum()
            found[replace(params, k_factor=k_factor)] = float(num_found / wanted.valid.sum())
        return found

    def _near(self, num: int, nprobe: int) -> Hits:
        """Returns what the 1-bit codes propose, enough for every k and k_factor, so that one search serves all of
        them."""
        if nprobe not in self._proposed:
            most = max(round(k * factors[-1]) for k, factors in K_FACTORS.items() if self.truth(k) is not None)
            self._proposed[nprobe] = self.propose(len(self.own), most + 1, nprobe)
        near = self._proposed[nprobe]
        return Hits(near.scores[:num], near.pair_ids[:num])


def calibrate(held_out: dict[str, HeldOut], family: str, num_lists: int, rows_per_list: float) -> list[dict[str, Any]]:
    """Measures the recall of each setting: rows of queries (the kind), k, nprobe, k_factor, ef_search, recall.

    family: "ivf-rabitq", "ivf", "hnsw" or "none". All kinds of queries are measured at the same settings; a ladder ends
    when a step gained less than ENOUGH for every kind.
    """
    table: list[dict[str, Any]] = []
    for k in KS:
        asked = {kind: one for kind, one in held_out.items() if one.truth(k) is not None}
        reached = dict.fromkeys(asked, -1.0)
        for params in _ladder(family, num_lists, k, rows_per_list) if asked else []:
            gained = False
            for kind, one in asked.items():
                recalls = one.recalls(family, k, params)
                rows = [
                    {"queries": kind, "k": k} | asdict(each) | {"recall": round(recall, 5)}
                    for each, recall in recalls.items()
                ]
                table += rows
                gained |= max(recalls.values()) - reached[kind] >= ENOUGH
                reached[kind] = max(reached[kind], *recalls.values())
            if not gained:
                break
    return table


def _ladder(family: str, num_lists: int, k: int, rows_per_list: float) -> list[SearchParams]:
    if family == "hnsw":
        return [SearchParams(ef_search=2**power) for power in range(4, 12)]
    if not num_lists:
        return [SearchParams()]
    most = min(num_lists, max(MOST_LISTS, int(num_lists * MOST_SHARE[k])))
    least = max(1, int(num_lists * LEAST_SHARE), int(k / rows_per_list))
    steps = [2**power for power in range(num_lists.bit_length()) if least <= 2**power < most] + [most]
    return [SearchParams(nprobe=step) for step in steps]


def choose(
    tables: list[list[dict[str, Any]]], recall: float, k: int, dim: int, rows_per_list: float
) -> tuple[SearchParams, float]:
    """Returns the cheapest setting that reaches the recall at k in every table (one per kind of query), and its recall.

    For k between two measured ones the larger one counts, with the same number of candidates, or a number of lists
    between those of both; beyond the largest k, the number of lists grows in proportion to k. If no setting reaches the
    recall, the best measured one is returned: compare the second value.
    """
    measured = sorted({row["k"] for table in tables for row in table})
    if not measured:
        raise RetrievalError(
            "this index was not calibrated; set index.nprobe, or build it with index.calibration_queries > 0"
        )
    at = next((value for value in measured if value >= k), measured[-1])
    best, found = _cheapest(tables, recall, at, dim, rows_per_list)
    if k > at and best.nprobe:
        best = replace(best, nprobe=ceil(best.nprobe * k / at))
    if k < at and best.k_factor:
        best = replace(best, k_factor=best.k_factor * at / k)
    below = max((value for value in measured if value < k), default=at)
    if below < k < at and best.nprobe and not best.k_factor:
        fewer, _ = _cheapest(tables, recall, below, dim, rows_per_list)
        if not fewer.k_factor and fewer.nprobe < best.nprobe:
            share = log(k / below) / log(at / below)
            best = replace(best, nprobe=ceil(fewer.nprobe * (best.nprobe / fewer.nprobe) ** share))
    return best, found


def _cheapest(
    tables: list[list[dict[str, Any]]], recall: float, at: int, dim: int, rows_per_list: float
) -> tuple[SearchParams, float]:
    """Chooses for a k that was measured. If cold codes are scanned, time is proportional to the number of lists, so a
    number between two measured ones is taken: on the line through their recalls over log(nprobe). Recall lies above
    that line."""
    reached: dict[SearchParams, list[float]] = {}
    for table in tables:
        for row in table:
            if row["k"] == at:
                params = SearchParams(row["nprobe"], row["k_factor"], row["ef_search"])
                reached.setdefault(params, []).append(row["recall"])
    common = {params: min(values) for params, values in reached.items() if len(values) == len(tables)}
    enough = [params for params, value in common.items() if value >= recall]
    if not enough:
        best = max(common, key=lambda params: (common[params], -params.nprobe))
        return best, common[best]
    best = min(enough, key=lambda params: (_cost(params, at, dim, rows_per_list), params.nprobe))
    fewer = max((params.nprobe for params in common if not params.k_factor and params.nprobe < best.nprobe), default=0)
    if best.k_factor or not fewer:
        return best, common[best]
    low = common[SearchParams(fewer)]
    share = (recall - low) / (common[best] - low)
    return replace(best, nprobe=ceil(fewer * (best.nprobe / fewer) ** share)), recall


def _cost(params: SearchParams, k: int, dim: int, rows_per_list: float) -> float:
    """Estimates the bytes that one query reads: hot codes of the visited lists and re-ranked cold codes, or all cold
    codes.

    The weights are judgement: 1-bit codes count 3 times (they cost arithmetic too), re-ranked rows 4 times (they lie
    apart).
    """
    visited = params.nprobe * rows_per_list
    if params.ef_search:
        return params.ef_search * dim
    return visited * dim * 3 / 8 + 4 * params.k_factor * k * dim if params.k_factor else visited * dim
