"""Neighbours: the nearest retrieved images vote for their classes (k nearest neighbours), without any training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from react_ray.training.labelled_vectors import LabelledVectors

AT_ONCE = (8192, 1024)


@dataclass(frozen=True)
class Neighbours:
    """The score of a class is the share of the votes of its keys among the k nearest; a vote is exp(cosine / t).

    As in Wu et al. (arXiv 1805.01978, section 3.4), which has k = 200 and t = 0.07.
    """

    keys: LabelledVectors  # of one task
    num_classes: int
    k: int
    temperature: float
    at_once: tuple[int, int] = AT_ONCE  # keys and images whose cosines exist at a time

    def __call__(self, image_ND: np.ndarray) -> np.ndarray:
        out_NC = np.zeros((len(image_ND), self.num_classes), np.float32)
        for first in range(0, len(image_ND) if len(self.keys.image_ND) else 0, self.at_once[1]):
            images = slice(first, first + self.at_once[1])
            cosine_BK, row_BK = self._nearest(image_ND[images].astype(np.float32))
            vote_BK = np.exp((cosine_BK - cosine_BK[:, :1]) / self.temperature)
            target_BKC = self.keys.targets(row_BK.ravel(), self.num_classes).reshape(*row_BK.shape, -1)
            out_NC[images] = np.einsum("bk,bkc->bc", vote_BK, target_BKC) / vote_BK.sum(axis=1, keepdims=True)
        return out_NC

    def _nearest(self, image_BD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(cosines, rows of the keys) [B, k] best first; fewer than k if there are fewer keys. Of equal cosines, the
        key of the lower row comes first."""
        cosine_BK: np.ndarray = np.zeros((len(image_BD), 0), np.float32)
        row_BK: np.ndarray = np.zeros((len(image_BD), 0), np.int64)
        for start in range(0, len(self.keys.image_ND), self.at_once[0]):
            key_KD = self.keys.image_ND[start : start + self.at_once[0]].astype(np.float32)
            row_BK = np.concatenate([row_BK, np.tile(np.arange(start, start + len(key_KD)), (len(image_BD), 1))], 1)
            cosine_BK = np.concatenate([cosine_BK, image_BD @ key_KD.T], 1)
            best_BK = np.argsort(-cosine_BK, axis=1, kind="stable")[:, : self.k]
            cosine_BK, row_BK = (np.take_along_axis(values, best_BK, 1) for values in (cosine_BK, row_BK))
        return cosine_BK, row_BK
