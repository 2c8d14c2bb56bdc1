"""CONTRIBUTING answers a newcomer's questions with paths and names: each must be true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import react_ray

ROOT = Path(react_ray.__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


ANSWERS = [line for line in section("Where is it?").splitlines() if line.startswith("| Where")]


def test_ten_questions_are_answered() -> None:
    assert len(ANSWERS) == 10


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_answer_names_a_file_that_defines_what_it_says(answer: str) -> None:
    places = re.findall(r"`(react_ray/[\w/]+\.py)`: `(\w+)`(?: and `(\w+)`)?", answer)
    assert places
    for path, *names in places:
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in filter(None, names):
            assert re.search(rf"^(def|class) {name}\b|^{name}\b.* =", source, re.MULTILINE), f"{path} has no {name}"


def test_every_path_that_is_named_exists() -> None:
    paths = re.findall(r"`((?:react_ray|tests|jobs|clusters|docs)/[\w/.]*)`", TEXT)
    paths = [path for path in paths if not path.endswith("/NAME.py")]
    assert len(paths) > 20 and [path for path in paths if not (ROOT / path).exists()] == []


def test_the_tour_has_eight_files() -> None:
    assert len(re.findall(r"^\d\. `react_ray/[\w/]+\.py`", section("Dive into the code"), re.MULTILINE)) == 8


def test_every_package_is_in_the_layout() -> None:
    packages = {path.parent.name for path in (ROOT / "react_ray").glob("*/__init__.py")} - {"sample"}
    assert {name for name in packages if f"`react_ray/{name}/`" not in section("Layout")} == set()
