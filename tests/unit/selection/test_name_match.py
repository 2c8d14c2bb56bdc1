from __future__ import annotations

import pytest

from react_ray.selection.name_match import NameMatch

NAMES = [
    (0, 0, "crane"),
    (0, 1, "Grus grus"),
    (1, 0, "T-shirt"),
    (2, 0, "shirt"),
    (3, 0, "straße"),
    (4, 0, "crane"),
    (5, 0, "--"),
]


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("A crane by the water", [(0, 0), (4, 0)]),
        ("cranes by the water", []),
        ("Two GRUS  GRUS.", [(0, 1)]),
        ("grus", []),
        ("my t-shirt", [(1, 0), (2, 0)]),
        ("my tshirt", []),
        ("STRASSE in the rain, crane_01", [(0, 0), (3, 0), (4, 0)]),
        ("crane, crane and Grus-grus", [(0, 0), (0, 1), (4, 0)]),
        ("", []),
        (None, []),
    ],
)
def test_names_are_found_on_word_boundaries_whatever_their_case(
    caption: str | None, found: list[tuple[int, int]]
) -> None:
    assert NameMatch(NAMES).find(caption) == found
