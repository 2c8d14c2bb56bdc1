"""Scorer: what scores the classes of one task, given unit image vectors.

The prompts of the classes are the first of them; linear heads, caches and nearest neighbours are others. All evaluation
is the same for each: the class with the highest score is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Scorer(Protocol):
    """Scores the C classes of one task."""

    def __call__(self, image_ND: np.ndarray) -> np.ndarray:
        """float32 [N, C] for unit rows in float16 or float32."""


@dataclass(frozen=True)
class ClassVectors:
    """Cosines with one unit vector per class: the mean of its prompts, or a row of a linear head."""

    vector_CD: np.ndarray  # float32, unit rows

    def __call__(self, image_ND: np.ndarray) -> np.ndarray:
        """Sums are taken in float64, so that the result does not depend on how images are batched."""
        return (image_ND.astype(np.float64) @ self.vector_CD.astype(np.float64).T).astype(np.float32)
