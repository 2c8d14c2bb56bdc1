"""A name means a class however it is spelled, and no other class."""

from __future__ import annotations

from unicodedata import normalize

import pytest

from react_ray.clip.prompts import TargetTask
from react_ray.evals.class_names import class_of, spellings
from react_ray.pairs.names_beside import NamesBeside

NAMES = ("café au lait", "BMW Series", "BMW 3 Series", "hêron")
KNOWN = spellings(TargetTask("things", NAMES, ("a {}.",), tuple((name,) for name in NAMES)))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (normalize("NFD", "Café_au-Lait"), "café au lait"),
        ("007.BMW_3_Series", "BMW 3 Series"),
        ("BMW 5 Series", None),
        ("h\u0435\u0302ron", None),  # a Cyrillic e
        ("", None),
    ],
)
def test_a_name_means_a_class(name: str, meant: str | None) -> None:
    assert class_of(name, KNOWN, NamesBeside()) == meant
