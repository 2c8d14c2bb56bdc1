"""The control of random pairs: from the whole pool or what is allowed of it, by seed."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.errors import ConfigError
from react_ray.index.allowed import Allowed
from react_ray.pair_id import part_of, row_of
from react_ray.selection.random_pairs import select_random
from react_ray.selection.select import SELECTED


def test_random_pairs_are_drawn_from_what_is_allowed() -> None:
    pool, bits = [(0, 400), (3, 200)], Allowed()
    for part, num_rows in pool:
        bits.add(part, np.arange(num_rows) % 3 == 0)
    chosen = select_random(pool, 150, seed=0, passes=bits.contains)["pair_id"].to_numpy()
    assert len(np.unique(chosen)) == 150 and (row_of(chosen) % 3 == 0).all()
    assert np.array_equal(chosen, select_random(pool, 150, seed=0, passes=bits.contains)["pair_id"].to_numpy())
    assert not np.array_equal(chosen, select_random(pool, 150, seed=1, passes=bits.contains)["pair_id"].to_numpy())
    with pytest.raises(ConfigError, match="202 random pairs were asked for, 201 are there; ask for fewer"):
        select_random(pool, 202, seed=0, passes=bits.contains)


def test_random_pairs_come_from_the_whole_pool_once_each_and_by_seed() -> None:
    pool = [(4, 30), (0, 5), (9, 0), (2, 65)]
    chosen = select_random(pool, 100, seed=0)
    assert chosen.schema.equals(SELECTED)
    pairs = chosen["pair_id"].to_numpy()
    assert np.array_equal(pairs, np.unique(pairs))
    for part, num_rows in pool:
        assert row_of(pairs[part_of(pairs) == part]).tolist() == list(range(num_rows))
    assert set(chosen["class_id"].to_pylist()) == {-1} and chosen["matches"].to_pylist() == [[]] * 100
    some = select_random(pool, 20, seed=1)
    assert some.equals(select_random(list(reversed(pool)), 20, seed=1))
    assert not some.equals(select_random(pool, 20, seed=2))
    with pytest.raises(ConfigError, match="101 random pairs were asked for, 100 are there"):
        select_random(pool, 101, seed=0)
