"""The weights of all classes that a pair matched."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from react_ray import schema
from react_ray.selection.soft_classes import soft_classes


def weights(own: int | None, *matches: tuple[int, float, str]) -> dict[int, float]:
    rows = [{"class_id": number, "prompt": "", "score": score, "key": key} for number, score, key in matches]
    column = pa.chunked_array([pa.array([rows], pa.list_(schema.MATCH))])
    [found] = soft_classes(pa.chunked_array([pa.array([own], pa.int32())]), column).to_pylist()
    return dict(found)


def test_a_class_weighs_as_the_softmax_of_clip_compares_it_with_the_best() -> None:
    found = weights(3, (3, 0.30, "image"), (5, 0.29, "image"), (7, 0.20, "image"))
    assert found == {3: 1.0, 5: pytest.approx(np.exp(-1), rel=1e-4)}, "a match that is 0.1 worse is left out"
    assert weights(3, (3, 0.30, "image"), (9, 0.30, "image")) == {3: 1.0, 9: 1.0}


def test_keys_are_compared_alone_and_the_best_prompt_of_a_class_counts() -> None:
    found = weights(1, (1, 0.90, "text"), (1, 0.80, "text"), (2, 0.25, "image"), (1, 0.20, "image"))
    assert found == {1: 1.0, 2: 1.0}, "the image says 2, the caption 1"


def test_the_class_that_a_pair_was_retrieved_for_weighs_1_even_if_ranks_chose_it() -> None:
    assert weights(4, (4, 0.28, "image"), (5, 0.30, "image")) == {4: 1.0, 5: 1.0}


def test_pairs_without_a_class_or_matches_have_none() -> None:
    assert weights(None, (4, 0.3, "image")) == {} and weights(2) == {}


def test_each_pair_is_weighed_alone_also_after_a_slice() -> None:
    match = {"prompt": "", "key": "text"}
    rows = [[{"class_id": 1, "score": 0.9} | match], [], [{"class_id": n, "score": 0.5} | match for n in (2, 8)]]
    column = pa.chunked_array([pa.array(rows, pa.list_(schema.MATCH))])
    own = pa.chunked_array([pa.array([1, 7, 8], pa.int32())])
    assert soft_classes(own, column).to_pylist() == [[(1, 1.0)], [], [(2, 1.0), (8, 1.0)]]
    assert soft_classes(own.slice(1), column.slice(1)).to_pylist() == [[], [(2, 1.0), (8, 1.0)]]
