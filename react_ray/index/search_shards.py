"""Searches shards that are spread over any number of searchers; the hits are those of one searcher with all shards.

Takes queries [Q, D]; gives Hits. ivf-rabitq with k_factor > 0 takes two rounds: every searcher estimates by its 1-bit
codes, the best k x k_factor estimates of all searchers are re-ranked, each where it lies. A searcher proposes as many
as it is likely to have of these, and is asked for more where they all are among them. Few queries, whose time is that
of the rounds, take one: scores come with the estimates. Every other search takes one round, too, in which few queries
ask each searcher for as many hits as it is likely to have of the best.
`searching` is the coordinator and knows nothing about processes: it yields what each searcher is to answer. A caller
answers it in this process (search_shards) or through actors (stages/retrieval/shard_actors.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from react_ray.index.class_hits import Classes, ClassHits, merge_class_hits, reduce_hits
from react_ray.index.config import SearchParams
from react_ray.index.list_index import ListIndex
from react_ray.index.merge import NO_PAIR, Hits, best, check_k, merge
from react_ray.index.shard import IndexShard

Shards = Sequence[IndexShard | ListIndex]  # the open shards of one searcher
Probes = Mapping[str, np.ndarray]  # by the name of a quantiser, the lists int64 [Q, P] that queries visit
NO_ROW = -1
FEW = 8  # queries that wait longer for a second round than for the scores that it would not have asked for
DEVIATIONS = 4  # beyond the mean of a searcher's part of the best estimates, if pairs are spread by chance


@dataclass(frozen=True)
class Proposed:
    """The candidates of one searcher: estimates float32 [Q, C], pair_ids and rows int64 [Q, C], and scores float32 [Q,
    C], or [Q, 0] if they were not asked for.

    A row is a place in the shards of this searcher, -1 = none.
    """

    estimates: np.ndarray
    pair_ids: np.ndarray
    rows: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Round:
    """A question to every searcher: `answer(shards, method, queries_QD, *each[i])` of searcher i."""

    method: Literal["search", "propose", "rerank"]
    queries_QD: np.ndarray
    each: list[tuple[Any, ...]]


Searching = Generator[Round, list[Any], Any]


def search_shards(shards: Shards, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
    """Returns Hits [Q, k] of shards that this process has opened."""
    num_lists = max((shard.num_lists for shard in shards), default=0) if any(one.filtered for one in shards) else 0
    hits: Hits = search_apart([shards], queries_QD, k, params, num_lists)
    return hits


def search_apart(
    searchers: Sequence[Shards],
    queries_QD: np.ndarray,
    k: int,
    params: SearchParams,
    num_lists: int = 0,
    two_stages: bool = True,
    classes: Classes | None = None,
) -> Any:
    """As `search_shards`, for shards of several searchers, all of them in this process. The rest as in `searching`."""
    steps = searching(len(searchers), queries_QD, k, params, num_lists, two_stages, classes)
    answers: list[Any] | None = None
    while True:
        try:
            asked = next(steps) if answers is None else steps.send(answers)
        except StopIteration as end:
            return end.value
        answers = [
            answer(shards, asked.method, asked.queries_QD, *each)
            for shards, each in zip(searchers, asked.each, strict=True)
        ]


def searching(
    num_searchers: int,
    queries_QD: np.ndarray,
    k: int,
    params: SearchParams,
    num_lists: int,
    two_stages: bool,
    classes: Classes | None = None,
    probes: Probes | None = None,
) -> Searching:
    """Yields rounds, is sent the answers of the searchers in their order, and returns Hits [Q, k], or of classes the k
    best pairs of each, ClassHits.

    Each searcher reduces what it found to the pairs of classes, so that an answer grows with them and not with their
    queries; unless lists are visited until enough pairs are found, which only all hits tell. num_lists: that of the
    index if a filter excludes pairs, otherwise 0. Queries with fewer than k hits then visit four times as many lists,
    up to all of them. two_stages: the index is of kind ivf-rabitq. probes: the lists that nearest_lists() finds for
    these queries, so that the searchers need not look them up each; None = they do.
    """
    check_k(k)
    if classes is not None:
        if not num_lists:
            visited = yield from _visit(num_searchers, queries_QD, k, params, two_stages, classes, probes)
            return merge_class_hits(visited, k)
        hits = yield from searching(num_searchers, queries_QD, k, params, num_lists, two_stages, probes=probes)
        return reduce_hits(hits, classes, k)
    hits = merge((yield from _visit(num_searchers, queries_QD, k, params, two_stages, probes=probes)), k)
    if not num_lists:
        return hits
    nprobe, short = params.nprobe or 1, np.flatnonzero(~hits.valid.all(axis=1))  # 0: as built, which may be 1
    while len(short) and nprobe < num_lists:
        nprobe = min(4 * nprobe, num_lists)
        wider = replace(params, nprobe=nprobe)
        more = merge((yield from _visit(num_searchers, queries_QD[short], k, wider, two_stages)), k)
        hits = Hits(hits.scores.copy(), hits.pair_ids.copy())  # an answer of an actor cannot be written to
        hits.scores[short], hits.pair_ids[short] = more.scores, more.pair_ids
        short = short[~more.valid.all(axis=1)]
    return hits


def _visit(
    num_searchers: int,
    queries_QD: np.ndarray,
    k: int,
    params: SearchParams,
    two_stages: bool,
    classes: Classes | None = None,
    probes: Probes | None = None,
) -> Generator[Round, list[Any], list[Any]]:
    """As `searching` without a filter, but returns what each searcher found: Hits [Q, k], or of classes the k best
    pairs of each, ClassHits."""
    if two_stages and not params.k_factor and classes is None and len(queries_QD) <= FEW:
        return (yield from _hits_of_each(num_searchers, queries_QD, k, params))
    if not (two_stages and params.k_factor and num_searchers > 1):
        return (yield Round("search", queries_QD, [(k, params, classes)] * num_searchers))
    count, scored = num_candidates(k, params), len(queries_QD) <= FEW and classes is None
    proposed, kept = yield from _candidates(num_searchers, queries_QD, count, params.nprobe, scored, probes or {})
    if scored:
        return [best(_joined(proposed, "scores"), np.where(kept, _joined(proposed, "pair_ids"), NO_PAIR), k)]
    return (yield Round("rerank", queries_QD, [(rows_QC, k, classes) for rows_QC in cut(proposed, kept)]))


def _hits_of_each(
    num_searchers: int, queries_QD: np.ndarray, k: int, params: SearchParams
) -> Generator[Round, list[Any], list[Hits]]:
    """Returns hits of each searcher, among which are the k best of all.

    Each is asked for as many as it is likely to have of these, and for k if one has that many: all hits of a hundred
    searchers would take a hundred times as long to send and to merge.
    """
    width = likely(k, num_searchers)
    found: list[Hits] = yield Round("search", queries_QD, [(width, params, None)] * num_searchers)
    if width < k:
        floor_Q = merge(found, k).scores[:, -1]
        if any((one.valid[:, -1] & (one.scores[:, -1] >= floor_Q)).any() for one in found):
            return (yield Round("search", queries_QD, [(k, params, None)] * num_searchers))
    return found


def _candidates(
    num_searchers: int, queries_QD: np.ndarray, count: int, nprobe: int, scored: bool, probes: Probes
) -> Generator[Round, list[Any], tuple[list[Proposed], np.ndarray]]:
    """Returns candidates of each searcher, and which of them have the `count` best estimates of all, as from
    `among_best`."""
    width = likely(count, num_searchers)
    proposed: list[Proposed] = yield Round("propose", queries_QD, [(width, nprobe, scored, probes)] * num_searchers)
    kept = among_best(proposed, count)
    if width == count:
        return proposed, kept
    of_each = np.split(kept, np.cumsum([one.rows.shape[1] for one in proposed[:-1]]), axis=1)
    short = np.flatnonzero(np.any([mine.sum(axis=1) >= width for mine in of_each], axis=0))
    if not len(short):
        return proposed, kept
    some = {name: lists_QP[short] for name, lists_QP in probes.items()}
    wider = yield Round("propose", queries_QD[short], [(count, nprobe, scored, some)] * num_searchers)
    proposed = [_replaced(one, short, more) for one, more in zip(proposed, wider, strict=True)]
    return proposed, among_best(proposed, count)


def _replaced(proposed: Proposed, queries: np.ndarray, by: Proposed) -> Proposed:
    """Returns the proposal with that of `by` in its place for these queries. queries: int64, rows of the proposal."""

    def of(name: str, nothing: float) -> np.ndarray:
        old, new = getattr(proposed, name), getattr(by, name)
        found = np.full((len(old), max(old.shape[1], new.shape[1])), nothing, old.dtype)
        found[:, : old.shape[1]] = old
        found[queries] = nothing
        found[queries, : new.shape[1]] = new
        return found

    return Proposed(of("estimates", -np.inf), of("pair_ids", NO_PAIR), of("rows", NO_ROW), of("scores", -np.inf))


def num_candidates(k: int, params: SearchParams) -> int:
    return max(k, round(k * params.k_factor))


def likely(count: int, num_searchers: int) -> int:
    """How many of the `count` best estimates of all one searcher hardly ever has more of."""
    mean = count / num_searchers
    return min(count, math.ceil(mean + DEVIATIONS * math.sqrt(mean)))


def among_best(proposed: Sequence[Proposed], count: int) -> np.ndarray:
    """Returns bool [Q, sum of C]: the candidates that are among the `count` best estimates of all searchers.

    Of equal estimates those of the smaller pair_ids are taken.
    """
    estimates, pair_ids, rows = (_joined(proposed, name) for name in ("estimates", "pair_ids", "rows"))
    kept = np.ones(estimates.shape, bool)
    spare = estimates.shape[1] - count
    if spare > 0:
        floor_Q = np.partition(estimates, spare, axis=1)[:, spare]
        kept = estimates >= floor_Q[:, None]
        for query in np.flatnonzero((kept.sum(axis=1) > count) & (floor_Q > -np.inf)).tolist():
            kept[query] = False
            kept[query, np.lexsort((pair_ids[query], -estimates[query]))[:count]] = True
    return kept & (rows != NO_ROW)


def _joined(proposed: Sequence[Proposed], name: str) -> np.ndarray:
    return np.concatenate([getattr(one, name) for one in proposed], axis=1)


def cut(proposed: Sequence[Proposed], kept: np.ndarray) -> list[np.ndarray]:
    """Returns the rows of each searcher that are kept, int64 [Q, C'], -1 = none."""
    shares, first = [], 0
    for one in proposed:
        mine = kept[:, first : first + one.rows.shape[1]]
        first += one.rows.shape[1]
        width = int(mine.sum(axis=1).max(initial=0))
        order = np.argsort(~mine, axis=1, kind="stable")[:, :width]
        rows = np.take_along_axis(one.rows, order, axis=1)
        shares.append(np.where(np.take_along_axis(mine, order, axis=1), rows, NO_ROW))
    return shares


def answer(shards: Shards, method: str, queries_QD: np.ndarray, *args: Any) -> Any:
    """What one searcher does in a round."""
    methods: dict[str, Callable[..., Any]] = {"search": _search, "propose": _propose, "rerank": _rerank}
    return methods[method](shards, queries_QD, *args)


def _search(
    shards: Shards, queries_QD: np.ndarray, k: int, params: SearchParams, classes: Classes | None = None
) -> Hits | ClassHits:
    if classes is None:
        return _hits(shards, queries_QD, k, params)
    lists = [shard for shard in shards if isinstance(shard, ListIndex)]
    if not params.k_factor and len(lists) == len(shards):
        return merge_class_hits([shard.search_classes(queries_QD, classes, k, params.nprobe) for shard in lists], k)
    return reduce_hits(_hits(shards, queries_QD, k, params), classes, k)


def _hits(shards: Shards, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
    if len(shards) > 1 and params.k_factor and all(isinstance(shard, ListIndex) for shard in shards):
        return search_apart([[shard] for shard in shards], queries_QD, k, params)  # of several quantisers
    return merge([shard.search(queries_QD, k, params) for shard in shards], k)


def _propose(
    shards: Sequence[ListIndex], queries_QD: np.ndarray, count: int, nprobe: int, scored: bool, probes: Probes
) -> Proposed:
    """Rows of the second of several quantisers are numbered behind those of the first."""
    found, first = [], 0
    for shard in shards:
        estimates, rows = shard.propose(queries_QD, count, nprobe, probes.get(shard.quantizer))
        scores = shard.scores(queries_QD, rows) if scored else np.empty((len(estimates), 0), np.float32)
        rows_here = np.where(rows < 0, NO_ROW, rows + first)
        found.append(Proposed(estimates, shard.cold.pair_ids(rows), rows_here, scores))
        first += shard.cold.num_rows
    return Proposed(*(_joined(found, name) for name in ("estimates", "pair_ids", "rows", "scores")))


def _rerank(
    shards: Sequence[ListIndex], queries_QD: np.ndarray, rows_QC: np.ndarray, k: int, classes: Classes | None = None
) -> Hits | ClassHits:
    found, first = [], 0
    for shard in shards:
        mine = (rows_QC >= first) & (rows_QC < first + shard.cold.num_rows)
        found.append(shard.rerank(queries_QD, np.where(mine, rows_QC - first, NO_ROW), k))
        first += shard.cold.num_rows
    hits = merge(found, k)
    return hits if classes is None else reduce_hits(hits, classes, k)
