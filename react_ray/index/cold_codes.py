"""The last word on a few rows of ivf-rabitq shards: scores of their cold codes, exact for the decoded vectors.

Takes numbers of shards and of rows; gives Hits. Next: together.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from react_ray.index.merge import NO_PAIR, Hits, best

SPARE = 32  # candidates beyond k, so that equal scores are ranked by pair_id
CODES_AT_ONCE = 1 << 19  # cold codes that are ranked at a time: in float32 they fit in a core's cache


class ColdCodes(Protocol):
    """What a ListShard keeps of its rows."""

    codes_ND: np.ndarray  # uint8
    pair_ids: np.ndarray  # int64
    first_D: np.ndarray  # float64: the decoded value is first + code * step
    step_D: np.ndarray


def ranked(shards: Sequence[ColdCodes], shard: np.ndarray, rows: np.ndarray, exact_QD: np.ndarray, k: int) -> Hits:
    """The k best of a few rows of each query, [Q, F] of the shards of these numbers, -1 = none; by exact scores."""
    scores, pair_ids = np.empty(rows.shape, np.float32), np.full(rows.shape, NO_PAIR, np.int64)
    scaled_QD, offset_Q = exact_QD * shards[0].step_D, exact_QD @ shards[0].first_D
    step = max(1, CODES_AT_ONCE // (rows.shape[1] * exact_QD.shape[1]))
    codes = np.empty((min(step, len(rows)) * rows.shape[1], exact_QD.shape[1]), np.uint8)
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        codes_BFD = gathered(shards, shard[block], rows[block], codes).astype(np.float64)
        scores[block] = np.matmul(codes_BFD, scaled_QD[block][:, :, None])[:, :, 0] + offset_Q[block, None]
    for number, one in enumerate(shards):
        here = (rows >= 0) & (shard == number)
        pair_ids[here] = one.pair_ids[rows[here]]
    return best(scores, pair_ids, k)


def gathered(shards: Sequence[ColdCodes], shard: np.ndarray, row: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Cold codes of the rows, uint8 [B, C, D], in `out`; of a row -1 those of any other."""
    codes, flat_shard, flat_row = out[: row.size], shard.ravel(), row.ravel()
    if len(shards) == 1:
        np.take(shards[0].codes_ND, flat_row, axis=0, mode="clip", out=codes)
    else:
        for number, one in enumerate(shards):
            here = np.flatnonzero(flat_shard == number)
            if len(here):
                codes[here] = np.take(one.codes_ND, flat_row[here], axis=0, mode="clip")
    return codes.reshape(*row.shape, -1)


def best_rows(pieces: list[np.ndarray], rows: list[tuple[int, int]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """(scores, rows) of one query that may be among its k best, in any order: more than k where the k-th score ties."""
    if not pieces:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scores = np.concatenate(pieces)
    floor = np.partition(scores, len(scores) - k)[len(scores) - k] if len(scores) > k else -np.inf
    at = np.flatnonzero((scores >= floor) & (scores > -np.inf))
    low = np.array([first for first, _ in rows], dtype=np.int64)
    lengths = np.array([last for _, last in rows], dtype=np.int64) - low
    ends = np.cumsum(lengths)
    piece = np.searchsorted(ends, at, side="right")
    return scores[at], low[piece] + at - (ends - lengths)[piece]
