"""A count agrees with its noun."""

from __future__ import annotations

from react_ray.counted import counted


def test_one_thing_is_singular_and_any_other_number_is_plural() -> None:
    assert [counted(num, "image") for num in (0, 1, 1204)] == ["0 images", "1 image", "1,204 images"]
    assert [counted(num, "class", "classes") for num in (1, 2)] == ["1 class", "2 classes"]
