"""Says which claims on pairs their images support (retrieve.min_image_score), whichever key found the pairs.

T2I as a filter of T2T: what captions found is kept only where the image agrees, as in the training sets of SWAT (Liu et
al., CVPR 2025).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]  # pair_id, class_id [N] -> image_scores of them
MOST_CLASSES = 1 << 20  # so that pair_id and class_id make one integer


class ImageAgreement:
    """Remembers the image's score of each claim that was compared: a choice is made several times."""

    def __init__(self, least: float, compare: Compare) -> None:
        self.least, self.compare = np.float32(least), compare
        self.dropped = 0  # claims, at the last call
        self._claims, self._scores = np.empty(0, np.int64), np.empty(0, np.float32)

    def __call__(self, pair_id: np.ndarray, class_id: np.ndarray) -> np.ndarray:
        """Returns bool [N], True where the image has min_image_score at least with a query of the class."""
        claims = pair_id * MOST_CLASSES + class_id
        new = ~np.isin(claims, self._claims)
        if new.any():
            known = np.concatenate([self._claims, claims[new]])
            scores = np.concatenate([self._scores, self.compare(pair_id[new], class_id[new])])
            order = np.argsort(known)
            self._claims, self._scores = known[order], scores[order]
        agrees: np.ndarray = self._scores[np.searchsorted(self._claims, claims)] >= self.least
        self.dropped = int((~agrees).sum())
        return agrees


def image_scores(image_ND: np.ndarray, class_N: np.ndarray, queries_QD: np.ndarray, class_Q: np.ndarray) -> np.ndarray:
    """Returns float32 [N], the best cosine of each image with a query of its class, as index/exact.py scores it; -inf
    for a pair without an image.

    image_ND: float16, NaN where a pair has none; class_N: int64. queries: float [Q, D], which are rounded to float16;
    class_Q: int64 [Q], ascending.
    """
    queries_QD = queries_QD.astype(np.float16).astype(np.float64)
    score_N = np.full(len(image_ND), -np.inf, np.float32)
    order = np.argsort(class_N, kind="stable")
    classes, start = np.unique(class_N[order], return_index=True)
    for number, rows in zip(classes.tolist(), np.split(order, start[1:]) if len(order) else [], strict=True):
        first, end = np.searchsorted(class_Q, [number, number + 1])
        score_NQ = image_ND[rows].astype(np.float64) @ queries_QD[first:end].T
        score_N[rows] = np.nan_to_num(score_NQ, nan=-np.inf).max(axis=1)
    return score_N
