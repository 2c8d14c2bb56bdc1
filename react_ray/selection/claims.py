"""Claims: how strongly each class claims each pair that it hit, and the rules that choose among claims.

Takes HitColumns; gives one row per class and pair. Each rule returns the rows that it keeps. A retrieval of 1,000
classes has tens of millions of claims in memory at once, so they hold no more than the rules need.

Next: select.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from react_ray.index.merge import ranking
from react_ray.index.ordering import order_by_pair
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.hit_columns import AskedClasses, HitColumns

RANK_OFFSET = 60  # reciprocal rank fusion: the sum of 1 / (60 + rank) (Cormack et al. 2009)
Scales = Mapping[tuple[str, str], tuple[float, float]]  # see key_scales.py


@dataclass(frozen=True)
class Claims:
    """One row per class and pair that it hit, ordered by pair_id and class_id: pair_id int64, class_id int32, strength
    float32 or float64, score float32 (the best cosine), [N] each; where keys have shares, of_key float32 [N, 2]: the
    best cosine by image and by caption, -inf where there is none."""

    pair_id: np.ndarray
    class_id: np.ndarray
    strength: np.ndarray
    score: np.ndarray
    of_key: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Claims:
        score = self.score[rows]
        strength = score if self.strength is self.score else self.strength[rows]
        of_key = None if self.of_key is None else self.of_key[rows]
        return Claims(self.pair_id[rows], self.class_id[rows], strength, score, of_key)

    def best_scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pairs that are claimed: pair_ids int64 [P] ascending, and their best scores float32 [P]."""
        start = np.flatnonzero(np.diff(self.pair_id, prepend=-1))
        return self.pair_id[start], np.maximum.reduceat(self.score, start) if len(start) else self.score


NONE = Claims(*(np.empty(0, dtype) for dtype in (np.int64, np.int32, np.float32, np.float32)))


def claims_of(hits: HitColumns, asked: AskedClasses, config: RetrieveConfig, scales: Scales | None = None) -> Claims:
    """scales: for fusion=z-score, one for each key that was hit."""
    start = np.flatnonzero((np.diff(hits.pair_id, prepend=-1) != 0) | (np.diff(hits.class_id, prepend=-1) != 0))
    if not len(start):
        return NONE
    score = np.maximum.reduceat(hits.score, start)
    strength = score
    if config.fusion == "rank":  # integers, so that the sum does not depend on its order
        share = 2**40 // (RANK_OFFSET + hits.rank.astype(np.int64))
        strength = np.add.reduceat(share, start) / 2**40
    elif config.fusion == "z-score":
        assert scales is not None
        z = np.empty(len(hits.score), np.float64)
        for kind, is_image in (("text", False), ("image", True)):
            for key, is_text in (("image", False), ("text", True)):
                rows = (asked.is_image[hits.query] == is_image) & (hits.text == is_text)
                if rows.any():
                    mean, spread = scales[kind, key]
                    z[rows] = (hits.score[rows].astype(np.float64) - mean) / spread
        strength = np.maximum.reduceat(z, start)
    of_key = None
    if config.image_share:
        of_one = (np.where(hits.text == is_text, hits.score, np.float32(-np.inf)) for is_text in (False, True))
        of_key = np.stack([np.maximum.reduceat(score_N, start) for score_N in of_one], axis=1)
    return Claims(hits.pair_id[start], hits.class_id[start], strength, score, of_key)


def joined(pieces: Sequence[Claims]) -> Claims:
    """Returns the claims of different classes as one."""
    if len(pieces) == 1:
        return pieces[0]
    pair_id, class_id, score = (
        np.concatenate([getattr(NONE, name), *(getattr(one, name) for one in pieces)])
        for name in ("pair_id", "class_id", "score")
    )
    is_score = all(one.strength is one.score for one in pieces)
    strength = score if is_score else np.concatenate([one.strength for one in pieces])
    of_key = [one.of_key for one in pieces if one.of_key is not None]
    every = Claims(pair_id, class_id, strength, score, np.concatenate(of_key) if of_key else None)
    return every.take(order_by_pair(pair_id, class_id))


def best_of_each_pair(claims: Claims) -> np.ndarray:
    """Returns the row of the strongest claim on each pair; ties go to the better score, then to the smaller
    class_id."""
    start = np.flatnonzero(np.diff(claims.pair_id, prepend=-1))
    if not len(start):
        return start
    sizes = np.diff(start, append=len(claims.pair_id))
    best = claims.strength == np.repeat(np.maximum.reduceat(claims.strength, start), sizes)
    score = np.where(best, claims.score, np.float32(-np.inf))
    best &= score == np.repeat(np.maximum.reduceat(score, start), sizes)
    rows = np.flatnonzero(best)
    return rows[np.flatnonzero(np.diff(claims.pair_id[rows], prepend=-1))]


def best_of_each_host(claims: Claims, host: np.ndarray, most: int) -> np.ndarray:
    """Returns the rows of each class's `most` strongest claims per host; pairs without a host (-1) have no limit.

    host: int64 [N], that of each claim's pair.
    """
    order = np.lexsort((-claims.score, -claims.strength, host, claims.class_id))
    change = np.diff(claims.class_id[order], prepend=-1) | np.diff(host[order], prepend=-2)
    start = np.flatnonzero(change)
    place = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
    return np.sort(order[(place < most) | (host[order] == -1)])


def in_turns(claims: Claims, image_share: float) -> Claims:
    """Returns the claims with strengths by which a class takes its best by image and its best by caption in turns: of
    its first n, whatever n is, image_share * n and more are its best by image, and (1 - image_share) * n its best by
    caption. A pair that both keys found takes the earlier of its two turns.
    """
    assert claims.of_key is not None
    turn = np.full(len(claims.pair_id), np.inf)
    for score_N, share in zip(claims.of_key.T, (image_share, 1 - image_share), strict=True):
        found = np.flatnonzero(score_N > -np.inf)
        found = found[ranking(claims.class_id[found], score_N[found], claims.pair_id[found])]
        class_id = claims.class_id[found]
        place = np.arange(1, len(found) + 1) - np.searchsorted(class_id, class_id)
        turn[found] = np.minimum(turn[found], place / share)
    return replace(claims, strength=-turn)


def best_of_each_class(claims: Claims, pairs_per_class: int, max_pairs: int = 0) -> np.ndarray:
    """Returns the rows of each class's strongest claims within both limits (0 = none), in the order of `claims`."""
    if claims.strength.dtype == np.float32:
        order = ranking(claims.class_id, claims.strength, np.arange(len(claims.score)))
    else:
        order = np.lexsort((-claims.score, -claims.strength, claims.class_id))
    class_id = claims.class_id[order]
    place = np.arange(len(order)) - np.searchsorted(class_id, class_id)
    if pairs_per_class:
        order, place = order[place < pairs_per_class], place[place < pairs_per_class]
    if max_pairs:
        turn = order[np.lexsort((-claims.score[order], -claims.strength[order], place))]
        _, first = np.unique(claims.pair_id[turn], return_index=True)
        last = np.sort(first)[:max_pairs]
        order = turn[: last[-1] + 1] if len(last) else turn
    return np.sort(order)
