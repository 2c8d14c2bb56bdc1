"""The rows that are shuffled together, and the memory that they take."""

from __future__ import annotations

from react_ray.training.batches import Batches
from react_ray.training.window import held_bytes, parts_of_window
from tests.unit.training.test_batches import SIDE, TableRows


def test_unless_the_recipe_says_half_a_gb_of_images_is_shuffled_together_and_its_memory_is_counted() -> None:
    rows = TableRows([10, 10, 10, 10])
    assert Batches(rows, batch_size=8, image_size=SIDE, seed=3, window_parts=0).window_parts > 4, "all of them"
    assert held_bytes(rows, 0, 1.0, SIDE, augments=False) == 40 * 3 * SIDE**2 + 2 * sum(rows.part_bytes)
    assert held_bytes(rows, 2, 1.0, SIDE, augments=True) == 3 * 2 * rows.part_bytes[0]
    rows.part_bytes = [1 << 30, 1 << 28, 1 << 28, 1 << 27]
    assert parts_of_window(rows) == 1
    assert held_bytes(rows, 0, 1.0, SIDE, augments=True) == 3 << 30
    rows.part_bytes = [1 << 27] * 4
    assert parts_of_window(rows) == 4
    assert held_bytes(rows, 0, 0.0, SIDE, augments=False) == 3 << 29
