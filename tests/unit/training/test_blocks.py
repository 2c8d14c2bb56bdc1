"""The number of blocks that are open at once, and the memory that they take."""

from __future__ import annotations

from react_ray.training.blocks import count_streams, fits, held_bytes
from tests.unit.training.test_batches import SIDE, TableRows


def test_unless_the_recipe_says_half_a_gb_of_images_is_open_at_once() -> None:
    rows = TableRows([10, 10, 10, 10])
    assert count_streams(rows, 4096) == 256
    rows.block_bytes = [4 << 20] * 4
    assert count_streams(rows, 4096) == 128
    assert (count_streams(rows, 32), count_streams(rows, 4096, 5)) == (32, 5)
    rows.block_bytes = [1 << 30] * 4
    assert count_streams(rows, 4096) == 1


def test_the_memory_of_a_process_is_that_of_its_own_open_blocks_or_of_all_images_decoded() -> None:
    rows = TableRows([10, 10, 10, 10])
    decoded, largest = 40 * 3 * SIDE**2, 3000
    assert held_bytes(rows, 4, 1, 1.0, SIDE, augments=False) == decoded + 2 * 4 * largest
    assert held_bytes(rows, 4, 4, 1.0, SIDE, augments=False) == decoded + 2 * largest
    assert fits(rows) and held_bytes(rows, 4, 4, 1.0, SIDE, augments=True) == 4 * largest + 2 * largest
    rows.block_bytes = [1 << 28] * 4
    assert not fits(rows)
    assert held_bytes(rows, 2, 1, 0.0, SIDE, augments=False) == (3 + 2 * 2) << 28
    assert held_bytes(rows, 2, 2, 0.0, SIDE, augments=False) == (2 + 2 * 1) << 28
