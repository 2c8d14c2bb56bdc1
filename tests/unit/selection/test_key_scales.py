"""Scales of keys: the mean cosine of queries with pairs, and its standard deviation."""

from __future__ import annotations

import numpy as np

from react_ray.selection.key_scales import QUERIES, key_scales
from tests.support.vector_database import unit_vectors


def test_a_scale_is_the_mean_and_the_spread_of_the_cosines_of_one_kind_of_query_with_one_key() -> None:
    queries = {"text": unit_vectors(40, 8, 1), "image": unit_vectors(5, 8, 2)}
    samples = {key: unit_vectors(300, 8, seed).astype(np.float32) for key, seed in (("image", 3), ("text", 4))}
    found = key_scales(queries, samples)
    assert len(found) == 4
    for (kind, key), scale in found.items():
        cosine = queries[kind].astype(np.float64) @ samples[key].astype(np.float64).T
        np.testing.assert_allclose(scale, (cosine.mean(), cosine.std()), rtol=1e-12)


def test_many_queries_are_sampled_and_no_vector_leaves_cosines_as_they_are() -> None:
    many, sample = unit_vectors(3 * QUERIES, 4, 5), unit_vectors(50, 4, 6).astype(np.float32)
    assert key_scales({"text": many}, {"text": sample}) == key_scales({"text": many[::3]}, {"text": sample})
    assert key_scales({"text": many}, {"text": sample[:0]}) == {("text", "text"): (0.0, 1.0)}
