"""A pair's address and back, by arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.pair_id import MAX_ROWS_PER_PART, pair_ids, part_of, row_of


@pytest.mark.parametrize("part", [0, 1, 7, 2**31, 2**43 - 1])
def test_part_and_row_come_back(part: int) -> None:
    ids = pair_ids(part, 1000)
    assert ids.dtype == np.int64 and (ids >= 0).all()
    np.testing.assert_array_equal(part_of(ids), np.full(1000, part))
    np.testing.assert_array_equal(row_of(ids), np.arange(1000))


def test_full_parts_follow_each_other_without_gap_or_overlap() -> None:
    assert len(pair_ids(0, 0)) == 0
    first, second = pair_ids(4, MAX_ROWS_PER_PART), pair_ids(5, MAX_ROWS_PER_PART)
    np.testing.assert_array_equal(np.diff(np.concatenate([first, second])), 1)


@pytest.mark.parametrize("num_rows", [-1, MAX_ROWS_PER_PART + 1])
def test_a_part_that_does_not_fit_is_refused(num_rows: int) -> None:
    with pytest.raises(ValueError, match=str(MAX_ROWS_PER_PART)):
        pair_ids(0, num_rows)
