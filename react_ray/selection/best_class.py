"""Finds the class that claims each pair most strongly, among all classes.

A search finds the best pairs of each class, but not the best class of each pair: another class may lie nearer to a pair
that is not among its own best. Takes the vectors of pairs and all queries; the score is that of index/exact.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NUMBERS_AT_ONCE = 1 << 24  # scores in float64: 128 MB
PAIRS_AT_ONCE = 4096


def best_classes(
    vectors: Mapping[str, np.ndarray], queries_QD: np.ndarray, class_Q: np.ndarray, text_Q: np.ndarray
) -> np.ndarray:
    """Returns int64 [N], the class with the best cosine of any of its queries and any key; of equal ones, the smallest.

    vectors: for each key, float16 [N, D], NaN where a pair has none. queries: float [Q, D], which are rounded to
    float16; class_Q: int64 [Q]; text_Q: bool [Q], True for sentences, which are compared with all keys. Other queries
    are images and compared with images.
    """
    queries_QD = queries_QD.astype(np.float16).astype(np.float64)
    num_pairs = len(next(iter(vectors.values())))
    score_N = np.full(num_pairs, -np.inf, np.float32)
    best_N = np.full(num_pairs, np.iinfo(np.int64).max)
    for key, vectors_ND in vectors.items():
        asking = np.flatnonzero(text_Q | (key == "image"))
        asking = asking[np.argsort(class_Q[asking], kind="stable")]
        step = max(1, NUMBERS_AT_ONCE // PAIRS_AT_ONCE)
        for some in np.split(asking, range(step, len(asking), step)) if len(asking) else []:
            classes, start = np.unique(class_Q[some], return_index=True)
            for first in range(0, num_pairs, PAIRS_AT_ONCE):
                rows = slice(first, first + PAIRS_AT_ONCE)
                score_QN = queries_QD[some] @ vectors_ND[rows].astype(np.float64).T
                score_CN = np.maximum.reduceat(np.nan_to_num(score_QN, nan=-np.inf).astype(np.float32), start, axis=0)
                of_block = score_CN.argmax(axis=0)
                found_N, class_N = score_CN[of_block, np.arange(score_CN.shape[1])], classes[of_block]
                wins = (found_N > score_N[rows]) | ((found_N == score_N[rows]) & (class_N < best_N[rows]))
                score_N[rows] = np.where(wins, found_N, score_N[rows])
                best_N[rows] = np.where(wins, class_N, best_N[rows])
    return best_N
