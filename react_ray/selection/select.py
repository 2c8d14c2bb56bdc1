"""Selects the training set: which of the pairs that were hit are kept, and for which class.

Takes hits (query, pair, score) and queries (the class that each asks for); gives one row per pair with its best class
and all its matches. A target number of unique pairs per class replaces a fixed k per query, whose yield differs by
three orders of magnitude between datasets. The result does not depend on the order of the input rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.errors import RetrievalError
from react_ray.index.ordering import distinct_pairs, order_by, order_within
from react_ray.selection.config import RetrieveConfig as RetrieveConfig
from react_ray.selection.screen import Screen

SELECTED = pa.schema([schema.retrieved(1).field(name) for name in ("pair_id", "class_id", "score", "matches")])
RANK_OFFSET = 60  # reciprocal rank fusion: the sum of 1 / (60 + rank) (Cormack et al. 2009)
Scales = Mapping[tuple[str, str], tuple[float, float]]  # see key_scales.py
MATCHES_AT_ONCE = 1 << 22  # rows of one Arrow chunk, so that its prompts stay below 2 GB


def select(
    hits: pa.Table,
    queries: pa.Table,
    config: RetrieveConfig,
    screen: Screen | None = None,
    scales: Scales | None = None,
) -> pa.Table:
    """hits: schema.HITS; queries: at least query_id, class_id (over all tasks), prompt, task, class_name.

    Returns one row per pair, ordered by pair_id: pair_id, class_id and score of its best class, and all its matches,
    best first. Pairs are chosen by `fusion`; `score` is always a cosine. Classes of one task that share a name count as
    the first of them. screen: the candidates that may be chosen; None = all. scales: for fusion=z-score, one for each
    key that was hit.
    """
    asked = _Queries(queries)
    found = _Found.read(hits, asked, config)
    claims = _claims(found, asked, config.fusion, scales or {})
    if screen is not None:
        claims = claims.take(np.flatnonzero(screen.kept[screen.at(found.distinct)][claims.pair]))
    if config.exclusive:
        claims = claims.take(_best_of_each_pair(claims))
    if screen is not None and config.max_per_domain:
        claims = claims.take(_best_of_each_host(claims, screen.host[screen.at(found.distinct)], config.max_per_domain))
    claims = claims.take(_best_of_each_class(claims, config.pairs_per_class, config.max_pairs))
    best = claims.take(_best_of_each_pair(claims))
    return pa.table(
        {
            "pair_id": found.distinct[best.pair],
            "class_id": best.class_id.astype(np.int32),
            "score": best.score,
            "matches": _matches(found, asked, best.pair),
        },
        schema=SELECTED,
    )


def candidates(hits: pa.Table, queries: pa.Table, config: RetrieveConfig) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs that `select` may choose from: pair_ids int64 [N] ascending, and their best scores float32
    [N]."""
    found = _Found.read(hits, _Queries(queries), config)
    start = np.flatnonzero(np.diff(found.pair, prepend=-1))
    return found.distinct, np.maximum.reduceat(found.score, start) if len(start) else found.score


def coverage(selected: pa.Table, queries: pa.Table, exclusive: bool = True) -> list[tuple[int, str, int]]:
    """Returns (class_id, class_name, number of pairs) for every class, including classes without any pair.

    exclusive: a pair counts for its best class only; otherwise for every class that hit it. Classes of one task that
    share a name share their pairs.
    """
    class_id, first = np.unique(queries["class_id"].to_numpy(), return_index=True)
    names = queries["class_name"].take(pa.array(first)).to_pylist()
    of_pairs = selected["class_id"].to_numpy()
    if not exclusive:
        row, match = (
            pc.list_parent_indices(selected["matches"]),
            pc.struct_field(pc.list_flatten(selected["matches"]), "class_id"),
        )
        of_pairs = np.unique(np.stack([match.to_numpy(), row.to_numpy()]), axis=1)[0]
    counts = np.bincount(np.searchsorted(class_id, _known(of_pairs, class_id)), minlength=len(names))
    shared = counts[np.searchsorted(class_id, first_of_name(queries)[first])]
    return list(zip(class_id.tolist(), names, shared.tolist(), strict=True))


def first_of_name(queries: pa.Table) -> np.ndarray:
    """Returns int64 [Q]: for each query, the smallest class_id in its task whose class has the same name."""
    class_id = queries["class_id"].to_numpy().astype(np.int64)
    if "task" not in queries.column_names:
        return class_id
    names = [
        queries[name].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        for name in ("task", "class_name")
    ]
    _, group = np.unique(names[0] * (int(names[1].max(initial=0)) + 1) + names[1], return_inverse=True)
    first = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, group, class_id)
    return first[group]


def _known(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    return values[np.isin(values, known)]


class _Queries:
    """Looks up class and prompt of a query by its id."""

    def __init__(self, queries: pa.Table) -> None:
        query_id = queries["query_id"].to_numpy()
        order = np.argsort(query_id, kind="stable")
        self.query_id = query_id[order]
        self.class_id = first_of_name(queries)[order]
        modality = queries["modality"] if "modality" in queries.column_names else pa.nulls(len(order), pa.string())
        self.is_image = pc.fill_null(pc.equal(modality, "image"), False).to_numpy(zero_copy_only=False)[order]
        self.prompts = queries["prompt"].combine_chunks().take(pa.array(order))
        self.by_class = np.empty(len(order), dtype=np.int64)  # rank of each query, ordered by class and then by id
        self.by_class[np.argsort(self.class_id, kind="stable")] = np.arange(len(order))

    def positions(self, query_id: np.ndarray) -> np.ndarray:
        lookup = np.full(int(self.query_id.max(initial=-1)) + 1, -1, dtype=np.int64)
        lookup[self.query_id] = np.arange(len(self.query_id))
        if len(query_id) and (query_id.min() < 0 or query_id.max() >= len(lookup) or (lookup[query_id] < 0).any()):
            raise RetrievalError("the hits answer other queries than these; delete the hits and retrieve again")
        return lookup[query_id]


@dataclass(frozen=True)
class _Found:
    """The hits as columns, ordered by pair (position in `distinct`), class, query (position) and key (text after
    image)."""

    distinct: np.ndarray
    pair: np.ndarray
    query: np.ndarray
    class_id: np.ndarray
    text: np.ndarray
    score: np.ndarray
    rank: np.ndarray

    @classmethod
    def read(cls, hits: pa.Table, asked: _Queries, config: RetrieveConfig) -> _Found:
        score = hits["score"].to_numpy()
        key = pc.equal(hits["key"], "text").to_numpy()
        keys = ["text"] if config.selection == "string" else config.keys  # names are found in captions, whatever keys
        searched = np.isin(np.array(["image", "text"]), keys)
        kept = (score >= np.float32(config.min_score)) & searched[key.astype(np.int64)]
        distinct, pair = distinct_pairs(hits["pair_id"].to_numpy()[kept])
        query = asked.positions(hits["query_id"].to_numpy()[kept])
        order = order_by(pair, asked.by_class[query], key[kept])
        rows = np.flatnonzero(kept)[order]
        query = query[order]
        rank = hits["rank"].to_numpy()[rows]
        return cls(distinct, pair[order], query, asked.class_id[query], key[rows], score[rows], rank)


@dataclass(frozen=True)
class _Claims:
    """One row per class and pair that it hit, ordered by pair and class: how strongly the class claims the pair."""

    pair: np.ndarray
    class_id: np.ndarray
    strength: np.ndarray
    score: np.ndarray

    def take(self, rows: np.ndarray) -> _Claims:
        return _Claims(self.pair[rows], self.class_id[rows], self.strength[rows], self.score[rows])


def _claims(found: _Found, asked: _Queries, fusion: str, scales: Scales) -> _Claims:
    start = np.flatnonzero(np.diff(found.pair, prepend=-1) | np.diff(found.class_id, prepend=-1))
    if not len(start):
        return _Claims(*(np.empty(0, dtype) for dtype in (np.int64, np.int64, np.float64, np.float32)))
    score = np.maximum.reduceat(found.score, start)
    strength = score.astype(np.float64)
    if fusion == "rank":  # integers, so that the sum does not depend on its order
        share = 2**40 // (RANK_OFFSET + found.rank.astype(np.int64))
        strength = np.add.reduceat(share, start) / 2**40
    elif fusion == "z-score":
        z = np.empty(len(found.score), np.float64)
        for kind, is_image in (("text", False), ("image", True)):
            for key, is_text in (("image", False), ("text", True)):
                rows = (asked.is_image[found.query] == is_image) & (found.text == is_text)
                if rows.any():
                    mean, spread = scales[kind, key]
                    z[rows] = (found.score[rows].astype(np.float64) - mean) / spread
        strength = np.maximum.reduceat(z, start)
    return _Claims(found.pair[start], found.class_id[start], strength, score)


def _best_of_each_pair(claims: _Claims) -> np.ndarray:
    """Returns the row of the strongest claim on each pair; ties go to the better score, then to the smaller
    class_id."""
    start = np.flatnonzero(np.diff(claims.pair, prepend=-1))
    if not len(start):
        return start
    sizes = np.diff(start, append=len(claims.pair))
    best = claims.strength == np.repeat(np.maximum.reduceat(claims.strength, start), sizes)
    score = np.where(best, claims.score, -np.inf)
    best &= score == np.repeat(np.maximum.reduceat(score, start), sizes)
    rows = np.flatnonzero(best)
    return rows[np.flatnonzero(np.diff(claims.pair[rows], prepend=-1))]


def _best_of_each_host(claims: _Claims, host: np.ndarray, most: int) -> np.ndarray:
    """Returns the rows of each class's `most` strongest claims per host; pairs without a host (-1) have no limit."""
    hosts = host[claims.pair]
    order = np.lexsort((-claims.score, -claims.strength, hosts, claims.class_id))
    change = np.diff(claims.class_id[order], prepend=-1) | np.diff(hosts[order], prepend=-2)
    start = np.flatnonzero(change)
    place = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
    return np.sort(order[(place < most) | (hosts[order] == -1)])


def _best_of_each_class(claims: _Claims, pairs_per_class: int, max_pairs: int) -> np.ndarray:
    """Returns the rows of each class's strongest claims within both limits, in the order of `claims`."""
    order = np.lexsort((-claims.score, -claims.strength, claims.class_id))
    class_id = claims.class_id[order]
    place = np.arange(len(order)) - np.searchsorted(class_id, class_id)
    if pairs_per_class:
        order, place = order[place < pairs_per_class], place[place < pairs_per_class]
    if max_pairs:
        turn = order[np.lexsort((-claims.strength[order], place))]
        _, first = np.unique(claims.pair[turn], return_index=True)
        last = np.sort(first)[:max_pairs]
        order = turn[: last[-1] + 1] if len(last) else turn
    return np.sort(order)


def _matches(found: _Found, asked: _Queries, chosen: np.ndarray) -> pa.ChunkedArray:
    """Returns list<schema.MATCH> for each chosen pair: best score first, then by class, query and key."""
    row_of_pair = np.full(len(found.distinct), -1, dtype=np.int64)
    row_of_pair[chosen] = np.arange(len(chosen))
    hit = np.flatnonzero(row_of_pair[found.pair] >= 0)
    row = row_of_pair[found.pair[hit]]
    order = order_within(row, found.score[hit])
    hit, row = hit[order], row[order]
    ends = np.cumsum(np.bincount(row, minlength=len(chosen)))
    kind = SELECTED.field("matches").type
    chunks = []
    begin = 0
    while begin < len(chosen):
        first = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, first + MATCHES_AT_ONCE, side="right")))
        part = hit[first : int(ends[end - 1])]
        match = pa.StructArray.from_arrays(
            [
                pa.array(found.class_id[part].astype(np.int32)),
                asked.prompts.take(pa.array(found.query[part])),
                pa.array(found.score[part]),
                pa.DictionaryArray.from_arrays(
                    pa.array(found.text[part].astype(np.int8)), pa.array(["image", "text"])
                ).dictionary_decode(),
            ],
            fields=list(schema.MATCH),
        )
        offsets = np.concatenate([[0], ends[begin:end] - first]).astype(np.int32)
        chunks.append(pa.ListArray.from_arrays(pa.array(offsets), match).cast(kind))
        begin = end
    return pa.chunked_array(chunks, type=kind)
