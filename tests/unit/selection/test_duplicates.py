"""Of duplicates the first stays; compared with a plain loop over all pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from react_ray.errors import ConfigError
from react_ray.selection import duplicates
from react_ray.selection.duplicates import NONE, equal_keys, near_hashes, near_vectors, within_cosine, within_hashes


def plainly(count: int, near: Callable[[int, int], bool]) -> np.ndarray:
    """bool [N]: what stays, one row after the other."""
    kept: list[int] = []
    for row in range(count):
        if not any(near(row, other) for other in kept):
            kept.append(row)
    return np.isin(np.arange(count), kept)


def hashes_with_copies(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 2**63, count, dtype=np.uint64) * np.uint64(2) + generator.integers(
        0, 2, count, dtype=np.uint64
    )
    for row in range(1, count, 2):  # every other one is an earlier one with up to 12 bits turned
        turned = generator.choice(64, generator.integers(0, 13), replace=False)
        hashes[row] = hashes[generator.integers(0, row)] ^ np.bitwise_or.reduce(
            np.uint64(1) << turned.astype(np.uint64), initial=np.uint64(0)
        )
    return hashes


def vectors_with_copies(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(count, 24))
    for row in range(1, count, 2):
        vectors[row] = vectors[generator.integers(0, row)] + generator.normal(size=24) * generator.uniform(0, 0.5)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("radius", [0, 1, 3, 4, 8, 11])
def test_of_near_hashes_the_first_stays_in_blocks_as_in_one(radius: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = hashes_with_copies(600, radius)
    original = near_hashes(hashes, radius)
    stays = plainly(600, lambda a, b: int(hashes[a] ^ hashes[b]).bit_count() <= radius)
    assert np.array_equal(original == NONE, stays)
    rows = np.flatnonzero(~stays)
    assert len(rows) and stays[original[rows]].all() and (original[rows] < rows).all()
    assert (np.bitwise_count(hashes[rows] ^ hashes[original[rows]]) <= radius).all()
    monkeypatch.setattr(duplicates, "BLOCK", 37)
    assert np.array_equal(near_hashes(hashes, radius) == NONE, stays)


@pytest.mark.parametrize("block", [1024, 37])
def test_of_near_vectors_the_first_stays(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", block)
    vectors = vectors_with_copies(500, 1)
    vectors[3] = np.nan
    original = near_vectors(vectors, 0.95)
    exact = vectors.astype(np.float64)
    stays = plainly(500, lambda a, b: bool(exact[a] @ exact[b] >= 0.95))
    assert np.array_equal(original == NONE, stays)
    assert original[3] == NONE and not (original == 3).any()
    rows = np.flatnonzero(~stays)
    assert len(rows) > 50 and stays[original[rows]].all()
    assert (np.einsum("nd,nd->n", exact[rows], exact[original[rows]]) >= 0.95).all()


def test_many_vectors_are_compared_in_lists_and_near_ones_still_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = vectors_with_copies(3000, 2)
    exactly = near_vectors(vectors, 0.98) == NONE
    monkeypatch.setattr(duplicates, "EXACT_UP_TO", 1000)
    in_lists = near_vectors(vectors, 0.98) == NONE
    assert (exactly != in_lists).mean() < 0.002
    assert np.array_equal(in_lists, near_vectors(vectors, 0.98) == NONE)


def test_keys_that_are_nothing_are_no_duplicates() -> None:
    assert equal_keys(np.array([5, 0, 5, 0, 7, 5])).tolist() == [NONE, NONE, 0, NONE, NONE, 0]


def test_what_is_near_to_a_reference_is_found() -> None:
    hashes = hashes_with_copies(300, 3)
    references = hashes[::10] ^ np.uint64(0b111)
    for radius in (0, 2, 3, 9):
        expected = (np.bitwise_count(hashes[:, None] ^ references[None]) <= radius).any(axis=1)
        assert np.array_equal(within_hashes(hashes, references, radius), expected)
    assert within_hashes(hashes, references, 3).sum() >= 30
    vectors = vectors_with_copies(300, 3)
    references_MD = np.concatenate([vectors[:40], np.full((1, 24), np.nan, np.float16)])
    expected = (vectors.astype(np.float64) @ references_MD[:40].astype(np.float64).T >= 0.9).any(axis=1)
    assert np.array_equal(within_cosine(vectors, references_MD, 0.9), expected) and expected.sum() > 40
    assert (
        not within_hashes(hashes, references[:0], 3).any() and not within_cosine(vectors, references_MD[:0], 0.5).any()
    )


def test_nothing_is_no_problem_and_a_radius_that_is_not_searched_is_refused() -> None:
    assert (
        len(near_hashes(np.empty(0, np.uint64), 3)) == 0 and len(near_vectors(np.empty((0, 8), np.float16), 0.9)) == 0
    )
    with pytest.raises(ConfigError, match="use 0 to 11"):
        near_hashes(np.empty(0, np.uint64), 12)
    with pytest.raises(ConfigError, match="above 0"):
        near_vectors(np.empty((0, 8), np.float16), 0.0)
