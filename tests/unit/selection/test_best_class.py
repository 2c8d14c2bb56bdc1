"""The best class of a pair: against one comparison of everything with everything."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.selection.best_class import best_classes
from tests.support.vector_database import unit_vectors


@pytest.mark.parametrize("num_pairs", [1, 30, 4100])
def test_the_best_class_is_the_one_of_all_scores_and_the_smallest_of_equal_ones(num_pairs: int) -> None:
    random = np.random.default_rng(num_pairs)
    queries_QD = unit_vectors(12, 8, 1)
    queries_QD[7], queries_QD[9] = queries_QD[2], queries_QD[0]  # equal queries of other classes
    class_Q, text_Q = random.integers(0, 6, 12), np.arange(12) != 5
    image_ND, text_ND = unit_vectors(num_pairs, 8, 2), unit_vectors(num_pairs, 8, 3)
    image_ND[::7] = np.nan
    found = best_classes({"image": image_ND, "text": text_ND}, queries_QD.astype(np.float32), class_Q, text_Q)
    exact_QD = queries_QD.astype(np.float64)
    score_QKN = np.stack([exact_QD @ image_ND.astype(np.float64).T, exact_QD @ text_ND.astype(np.float64).T], axis=1)
    score_QKN[5, 1] = -np.inf  # an image is not compared with captions
    best_QN = np.nan_to_num(score_QKN.astype(np.float32), nan=-np.inf).max(axis=1)
    best_CN = np.stack([best_QN[class_Q == number].max(axis=0, initial=-np.inf) for number in range(6)])
    assert found.tolist() == best_CN.argmax(axis=0).tolist()
