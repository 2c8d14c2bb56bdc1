"""ClassHits: the best pairs of each class, whichever of its queries hit them.

Takes the Hits of all queries of some classes, of any shards; gives the best pairs of each class, each with its best
hit. The reduction of a union is the reduction of reductions, so that searchers send a class's best pairs instead of all
hits, and the result depends neither on the number of searchers nor on how queries come in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from react_ray.index.merge import Hits, ranking

HITS_PER_PAIR = 4  # hits that are looked at first, in multiples of the pairs that are wanted


@dataclass(frozen=True)
class Classes:
    """What queries are asked for: query int64 [Q], their numbers, and class_id int64 [Q]."""

    query: np.ndarray
    class_id: np.ndarray

    def take(self, rows: np.ndarray) -> Classes:
        return Classes(self.query[rows], self.class_id[rows])


@dataclass(frozen=True)
class ClassHits:
    """One row per class and pair, ordered by class, then by score (best first), then by pair_id.

    class_id int64 [N]; query int64 [N], the query whose hit it is: of equal hits, the first; pair_id int64 [N]; score
    float32 [N].
    """

    class_id: np.ndarray
    query: np.ndarray
    pair_id: np.ndarray
    score: np.ndarray

    @property
    def place(self) -> np.ndarray:
        """int32 [N]: the place of each pair among those of its class, from 0."""
        return (np.arange(len(self.class_id)) - np.searchsorted(self.class_id, self.class_id)).astype(np.int32)


def class_blocks(class_Q: np.ndarray, hits_per_query: int, most: int, hits_per_class: int = 0) -> list[np.ndarray]:
    """Splits queries into blocks of whole classes with at most so many hits, or of one class that has more.

    class_Q: int64 [Q], ascending. Returns the rows of each block, in order.
    """
    ends = [*np.flatnonzero(np.diff(class_Q)).tolist(), len(class_Q) - 1]
    blocks, first, last, classes = [], 0, -1, 0
    for end in ends:
        if last >= first and (end + 1 - first) * hits_per_query + (classes + 1) * hits_per_class > most:
            blocks.append(np.arange(first, last + 1))
            first, classes = last + 1, 0
        last, classes = end, classes + 1
    return [*blocks, np.arange(first, len(class_Q))]


def reduce_hits(hits: Hits, classes: Classes, most: int) -> ClassHits:
    """hits: [Q, k], of the queries of `classes`. Returns the `most` best pairs of each class.

    The result is that of an endless k if k >= most: every pair that is among a class's `most` best is among the `most`
    best of the query that scores it highest.
    """
    pieces = []
    for number in np.unique(classes.class_id).tolist():
        rows = np.flatnonzero(classes.class_id == number)
        length = _above_floor(hits.scores, rows, most)
        pair_id, score = (
            np.concatenate([column[row, :end] for row, end in zip(rows.tolist(), length.tolist(), strict=True)])
            for column in (hits.pair_ids, hits.scores)
        )
        pieces.append(_best_of_class(number, np.repeat(classes.query[rows], length), pair_id, score, most))
    return _joined(pieces)


def merge_class_hits(found: list[ClassHits], most: int) -> ClassHits:
    """Returns the `most` best pairs of each class over several answers, whose pairs may be the same."""
    if len(found) == 1:
        return found[0]
    every = _joined(found)
    order = np.argsort(every.class_id, kind="stable")
    numbers, start = np.unique(every.class_id[order], return_index=True)
    return _joined(
        [
            _best_of_class(number, every.query[rows], every.pair_id[rows], every.score[rows], most)
            for number, rows in zip(numbers.tolist(), np.split(order, start[1:]), strict=True)
        ]
        if len(order)
        else []
    )


def first_best(scores_QN: np.ndarray, first_H: np.ndarray, at_H: np.ndarray, at_N: np.ndarray) -> np.ndarray:
    """Returns int64 [M], the first row of a group of rows that has its best score in a column.

    first: the first row of each group, ascending; at_H and at_N: the group, ascending, and the column.
    """
    ends = np.searchsorted(at_H, np.arange(1, len(first_H) + 1)).tolist()
    best, low = np.empty(len(at_H), np.int64), 0
    for first, last, high in zip(first_H.tolist(), [*first_H[1:].tolist(), len(scores_QN)], ends, strict=True):
        best[low:high] = first + scores_QN[first:last, at_N[low:high]].argmax(axis=0)
        low = high
    return best


def _above_floor(scores_QK: np.ndarray, rows: np.ndarray, most: int) -> np.ndarray:
    """Returns int64 [rows], how many of the first hits of each row may be among the `most` best pairs: a query with as
    many hits shows a score that all of them reach."""
    k = scores_QK.shape[1]
    floor = scores_QK[rows, most - 1].max() if k >= most else -np.inf
    side: Literal["left", "right"] = "left" if floor > -np.inf else "right"  # -inf is no hit
    return np.array([k - np.searchsorted(scores_QK[row, ::-1], floor, side) for row in rows.tolist()], np.int64)


def _best_of_class(number: int, query: np.ndarray, pair_id: np.ndarray, score: np.ndarray, most: int) -> ClassHits:
    """Sorts only as many of the best hits as hold enough different pairs."""
    width = HITS_PER_PAIR * most
    while width < len(score):
        rows = np.flatnonzero(score >= np.partition(score, len(score) - width)[len(score) - width])
        found = _ranked(number, query[rows], pair_id[rows], score[rows], most)
        if len(found.pair_id) == most:
            return found
        width *= HITS_PER_PAIR
    return _ranked(number, query, pair_id, score, most)


def _ranked(number: int, query: np.ndarray, pair_id: np.ndarray, score: np.ndarray, most: int) -> ClassHits:
    order = ranking(np.zeros(len(score), np.int64), score, pair_id)
    pair_id, query, score = pair_id[order], query[order], score[order]
    kept = np.zeros(len(order), dtype=bool)
    kept[np.unique(pair_id, return_index=True)[1]] = True  # the first row of each pair, which is its best
    first_of_tie = np.flatnonzero(np.diff(pair_id, prepend=-1) | (np.diff(score, prepend=np.float32(np.inf)) != 0))
    query = np.minimum.reduceat(query, first_of_tie) if len(query) else query
    tie = np.cumsum(np.bincount(first_of_tie, minlength=len(order))) - 1
    rows = np.flatnonzero(kept)[:most]
    return ClassHits(np.full(len(rows), number, np.int64), query[tie[rows]], pair_id[rows], score[rows])


def _joined(pieces: list[ClassHits]) -> ClassHits:
    empty = ClassHits(*(np.empty(0, dtype) for dtype in (np.int64, np.int64, np.int64, np.float32)))
    columns = ("class_id", "query", "pair_id", "score")
    return ClassHits(*(np.concatenate([getattr(one, name) for one in (empty, *pieces)]) for name in columns))
