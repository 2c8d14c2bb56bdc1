"""Cache: scores classes by their prompts and by the retrieved images that an image is close to, without any training.

Tip-Adapter (arXiv 2207.09519, equations 4 and 5) keeps few labelled images of each class as keys, SuS-X (arXiv
2211.16198) retrieved ones. Here the keys are the stored vectors of the retrieved pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.scorer import ClassVectors

SHOTS = 16  # keys of each class for which Tip-Adapter publishes alpha and beta
AT_ONCE = (8192, 1024)


@dataclass(frozen=True)
class Cache:
    """scale * cosine(image, prompt) + alpha * SHOTS * (mean over the class's keys of exp(-beta (1 - cosine))).

    Tip-Adapter sums over the keys, SHOTS in each class. The mean makes its alpha fit any number of keys, and classes
    with many of them are not preferred.
    """

    prompts: ClassVectors
    keys: LabelledVectors  # of one task
    scale: float
    alpha: float
    beta: float
    at_once: tuple[int, int] = AT_ONCE  # keys and images whose cosines exist at a time

    def __call__(self, image_ND: np.ndarray) -> np.ndarray:
        return self.scale * self.prompts(image_ND) + self.alpha * SHOTS * self.affinity(image_ND)

    def affinity(self, image_ND: np.ndarray) -> np.ndarray:
        """float32 [N, C]: the mean over each class's keys; 0 for a class without any."""
        num_classes = len(self.prompts.vector_CD)
        sum_NC = np.zeros((len(image_ND), num_classes), np.float32)
        count_C = np.zeros(num_classes, np.float32)
        for start in range(0, len(self.keys.image_ND), self.at_once[0]):
            rows = slice(start, start + self.at_once[0])
            target_KC = self.keys.targets(rows, num_classes)
            count_C += target_KC.sum(axis=0)
            key_DK = self.keys.image_ND[rows].astype(np.float32).T
            for first in range(0, len(image_ND), self.at_once[1]):
                images = slice(first, first + self.at_once[1])
                cosine_BK = image_ND[images].astype(np.float32) @ key_DK
                sum_NC[images] += np.exp(-self.beta * (1 - cosine_BK)) @ target_KC
        return sum_NC / np.maximum(count_C, 1e-9)
