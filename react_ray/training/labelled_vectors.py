"""LabelledVectors: image vectors of retrieved pairs with the classes that they count for.

Linear heads train on them, a cache compares images with them, and nearest neighbours vote by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NO_CLASS = -1


@dataclass(frozen=True)
class LabelledVectors:
    """N vectors, each with up to L classes."""

    image_ND: np.ndarray  # float16 or float32, unit rows
    class_id_NL: np.ndarray  # int; NO_CLASS fills rows with fewer classes
    weight_NL: np.ndarray  # float32: 1 for the class that a pair matched best

    @classmethod
    def of_one_class(cls, image_ND: np.ndarray, class_id_N: np.ndarray) -> LabelledVectors:
        return cls(image_ND, class_id_N[:, None], np.ones((len(class_id_N), 1), np.float32))

    @classmethod
    def of_matched(
        cls, image_ND: np.ndarray, class_id_N: np.ndarray, matched: Sequence[Sequence[tuple[int, float]]]
    ) -> LabelledVectors:
        """class_id_N: the class that each pair was retrieved for, which weighs 1. matched: class id and weight of all
        that it matched (selection/soft_classes.py)."""
        others = [[one for one in row if one[0] != own] for own, row in zip(class_id_N.tolist(), matched, strict=True)]
        width = 1 + max(map(len, others), default=0)
        class_id_NL = np.full((len(others), width), NO_CLASS, np.int32)
        weight_NL = np.zeros((len(others), width), np.float32)
        class_id_NL[:, 0], weight_NL[:, 0] = class_id_N, 1
        for row, found in enumerate(others):
            for place, (class_id, weight) in enumerate(found, 1):
                class_id_NL[row, place], weight_NL[row, place] = class_id, weight
        return cls(image_ND, class_id_NL, weight_NL)

    def rows(self, rows: slice) -> LabelledVectors:
        return LabelledVectors(self.image_ND[rows], self.class_id_NL[rows], self.weight_NL[rows])

    def with_others(self, others: LabelledVectors, copies_M: np.ndarray) -> LabelledVectors:
        """These rows, then the M others, each as often as copies_M (int64) says."""
        width = max(self.class_id_NL.shape[1], others.class_id_NL.shape[1])

        def wide(one: LabelledVectors) -> tuple[np.ndarray, np.ndarray]:
            missing = ((0, 0), (0, width - one.class_id_NL.shape[1]))
            return np.pad(one.class_id_NL, missing, constant_values=NO_CLASS), np.pad(one.weight_NL, missing)

        (class_id_NL, weight_NL), (class_id_ML, weight_ML) = wide(self), wide(others)
        return LabelledVectors(
            np.concatenate([self.image_ND, np.repeat(others.image_ND, copies_M, axis=0)]),
            np.concatenate([class_id_NL, np.repeat(class_id_ML, copies_M, axis=0)]),
            np.concatenate([weight_NL, np.repeat(weight_ML, copies_M, axis=0)]),
        )

    def of_task(self, first: int, last: int) -> LabelledVectors:
        """The rows with a class id in first .. last - 1; ids then count from 0.

        The weights of a row are scaled to sum to the largest of them, so that a pair which several classes match
        equally well counts as one pair, and a pair that is far from all classes of this task counts little.
        """
        inside_NL = (self.class_id_NL >= first) & (self.class_id_NL < last)
        rows = np.flatnonzero(inside_NL.any(axis=1))
        weight_NL = np.where(inside_NL, self.weight_NL, 0)[rows]
        weight_NL = weight_NL * weight_NL.max(axis=1, keepdims=True) / weight_NL.sum(axis=1, keepdims=True)
        class_id_NL = np.where(inside_NL, self.class_id_NL - first, NO_CLASS)[rows]
        return LabelledVectors(self.image_ND[rows], class_id_NL, weight_NL.astype(np.float32))

    def targets(self, rows: np.ndarray | slice, num_classes: int) -> np.ndarray:
        """float32 [B, C]: the weight of each class for each of these rows. All rows of a million pairs and a thousand
        classes would take 4 GB."""
        class_id_BL, weight_BL = self.class_id_NL[rows], self.weight_NL[rows]
        target_BC = np.zeros((len(class_id_BL), num_classes + 1), np.float32)  # the last column takes NO_CLASS
        for class_id_B, weight_B in zip(class_id_BL.T, weight_BL.T, strict=True):
            target_BC[np.arange(len(class_id_B)), class_id_B] += weight_B
        return target_BC[:, :num_classes]
