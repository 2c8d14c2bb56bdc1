"""Selection: which of the pairs that were hit become the training set, and for which class.

Takes hits (query, pair, score) and the queries (which class each asks for); gives one row per pair with its best class
and every match that it had. A target of unique pairs per class replaces a fixed k per query, whose yield differs by
three orders of magnitude between datasets. Nothing depends on the order of the rows that come in.
Next: stages/collect.py looks the pairs up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.errors import ConfigError, RetrievalError
from react_ray.index.config import Key
from react_ray.index.merge import ranking
from react_ray.pair_id import ROW_BITS
from react_ray.section import Section, field

SELECTED = pa.schema([schema.retrieved(1).field(name) for name in ("pair_id", "class_id", "score", "matches")])
RANK_OFFSET = 60  # of reciprocal rank fusion, sum of 1 / (60 + rank) (Cormack et al. 2009)
MATCHES_AT_ONCE = 1 << 22  # keeps the prompts of one chunk of matches below 2 GB


class RetrieveConfig(Section):
    keys: list[Key] = field(["image", "text"], "sides of a pair that queries are compared with", min_length=1)
    search: Literal["index", "exact"] = field("index", "FAISS shards, or exact over the embeddings without an index")
    prompts: Literal["separate", "averaged"] = field(
        "separate", "one query per class and template (as REACT), or one per class: the mean of its templates"
    )
    k: int = field(100, "hits per query and key; more candidates, more time and memory", ge=1)
    selection: Literal["hits", "random"] = field("hits", "random: as many pairs from the whole pool, as a control")
    fusion: Literal["score", "rank"] = field(
        "score", "a pair's claim on a class: its best score, or reciprocal ranks summed over prompts and keys"
    )
    pairs_per_class: int = field(0, "unique pairs that a class takes at most, best first; 0 = all that were hit", ge=0)
    exclusive: bool = field(True, "a pair counts for its best class only; else for every class that hit it")
    min_score: float = field(-1.0, "hits with a lower cosine are dropped")
    max_pairs: int = field(0, "pairs in all; classes give up their worst first; 0 = no limit", ge=0)


def select(hits: pa.Table, queries: pa.Table, config: RetrieveConfig) -> pa.Table:
    """hits: schema.HITS; queries: query_id, class_id (over all tasks), prompt and whatever else.

    Returns pair_id, class_id and score of its best class, matches (all of them, best first): one row per pair,
    ordered by pair_id. Pairs are chosen by `fusion`; `score` is always a cosine.
    """
    asked = _Queries(queries)
    found = _Found.read(hits, asked, config)
    claims = _claims(found, config.fusion)
    if config.exclusive:
        claims = claims.take(_best_of_each_pair(claims))
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


def select_random(parts: list[tuple[int, int]], count: int, seed: int) -> pa.Table:
    """`count` pairs drawn by seed from a pool of (part, num_rows): class_id -1, score null, no matches."""
    parts = sorted(parts)
    sizes = np.array([num_rows for _, num_rows in parts], dtype=np.int64)
    total = int(sizes.sum())
    if count > total:
        raise ConfigError(
            f"retrieve.max_pairs: {count} random pairs were asked for, the pool has {total}; ask for fewer"
        )
    drawn = np.sort(np.random.default_rng(seed).choice(total, size=count, replace=False))
    ends = np.cumsum(sizes)
    at = np.searchsorted(ends, drawn, side="right")
    part = np.array([number for number, _ in parts], dtype=np.int64)[at]
    return pa.table(
        {
            "pair_id": part << ROW_BITS | (drawn - (ends - sizes)[at]),
            "class_id": np.full(count, -1, dtype=np.int32),
            "score": pa.nulls(count, pa.float32()),
            "matches": pa.array([[]] * count, type=SELECTED.field("matches").type),
        },
        schema=SELECTED,
    )


def coverage(selected: pa.Table, queries: pa.Table) -> list[tuple[int, str, int]]:
    """(class_id, class_name, pairs that count for it as their best class) of every class, empty ones too."""
    class_id, first = np.unique(queries["class_id"].to_numpy(), return_index=True)
    names = queries["class_name"].take(pa.array(first)).to_pylist()
    counts = np.bincount(
        np.searchsorted(class_id, _known(selected["class_id"].to_numpy(), class_id)), minlength=len(names)
    )
    return list(zip(class_id.tolist(), names, counts.tolist(), strict=True))


def _known(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    return values[np.isin(values, known)]


class _Queries:
    """Class and prompt of a query by its id."""

    def __init__(self, queries: pa.Table) -> None:
        query_id = queries["query_id"].to_numpy()
        order = np.argsort(query_id, kind="stable")
        self.query_id = query_id[order]
        self.class_id = queries["class_id"].to_numpy()[order].astype(np.int64)
        self.prompts = queries["prompt"].combine_chunks().take(pa.array(order))

    def positions(self, query_id: np.ndarray) -> np.ndarray:
        lookup = np.full(int(self.query_id.max(initial=-1)) + 1, -1, dtype=np.int64)
        lookup[self.query_id] = np.arange(len(self.query_id))
        if len(query_id) and (query_id.min() < 0 or query_id.max() >= len(lookup) or (lookup[query_id] < 0).any()):
            raise RetrievalError("the hits answer other queries than these; delete the hits and retrieve again")
        return lookup[query_id]


@dataclass(frozen=True)
class _Found:
    """Hits as columns, in an order of their own: pair (position in distinct), query (position), key is text, ..."""

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
        searched = np.isin(np.array(["image", "text"]), config.keys)
        kept = (score >= np.float32(config.min_score)) & searched[key.astype(np.int64)]
        distinct, pair = np.unique(hits["pair_id"].to_numpy()[kept], return_inverse=True)
        query = asked.positions(hits["query_id"].to_numpy()[kept])
        rank = hits["rank"].to_numpy()[kept]
        return cls(distinct, pair, query, asked.class_id[query], key[kept], score[kept], rank)


@dataclass(frozen=True)
class _Claims:
    """One row per (pair, class) that met, ordered by both: how strongly the class claims the pair."""

    pair: np.ndarray
    class_id: np.ndarray
    strength: np.ndarray
    score: np.ndarray

    def take(self, rows: np.ndarray) -> _Claims:
        return _Claims(self.pair[rows], self.class_id[rows], self.strength[rows], self.score[rows])


def _claims(found: _Found, fusion: str) -> _Claims:
    num_classes = int(found.class_id.max(initial=0)) + 1
    cell = found.pair * num_classes + found.class_id
    order = np.argsort(cell)
    cell = cell[order]
    start = np.flatnonzero(np.diff(cell, prepend=-1))
    if not len(start):
        return _Claims(*(np.empty(0, dtype) for dtype in (np.int64, np.int64, np.float64, np.float32)))
    score = np.maximum.reduceat(found.score[order], start)
    strength = score.astype(np.float64)
    if fusion == "rank":  # whole numbers, so that the sum does not depend on its order
        share = (2**40 // (RANK_OFFSET + found.rank.astype(np.int64)))[order]
        strength = np.add.reduceat(share, start) / 2**40
    return _Claims(cell[start] // num_classes, cell[start] % num_classes, strength, score)


def _best_of_each_pair(claims: _Claims) -> np.ndarray:
    """Rows of the strongest claim on each pair; on equal strength the better score, then the smaller class_id."""
    start = np.flatnonzero(np.diff(claims.pair, prepend=-1))
    if not len(start):
        return start
    sizes = np.diff(start, append=len(claims.pair))
    best = claims.strength == np.repeat(np.maximum.reduceat(claims.strength, start), sizes)
    score = np.where(best, claims.score, -np.inf)
    best &= score == np.repeat(np.maximum.reduceat(score, start), sizes)
    rows = np.flatnonzero(best)
    return rows[np.flatnonzero(np.diff(claims.pair[rows], prepend=-1))]


def _best_of_each_class(claims: _Claims, pairs_per_class: int, max_pairs: int) -> np.ndarray:
    """Rows of the strongest claims of each class, within both limits, in the order of `claims`."""
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
    """list<schema.MATCH> of each chosen pair, best score first, then by query and key."""
    row_of_pair = np.full(len(found.distinct), -1, dtype=np.int64)
    row_of_pair[chosen] = np.arange(len(chosen))
    hit = np.flatnonzero(row_of_pair[found.pair] >= 0)
    row = row_of_pair[found.pair[hit]]
    order = ranking(row, found.score[hit], found.query[hit] * 2 + found.text[hit])
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
