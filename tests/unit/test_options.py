"""Every option of a recipe has a user: a shipped recipe sets it, or a page of docs/options tells whose case it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import react_ray
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages.training.checks import check_workers

PACKAGE = Path(react_ray.__file__).parent
RECIPES = sorted((PACKAGE / "recipes").glob("*.yaml"))
PAGES = sorted((PACKAGE.parent / "docs/options").glob("*.md"))
OF_EVERY_RECIPE = {"name", "seed", "database", "out", "arms"}


def fields(model: type[BaseModel], above: str = "") -> set[str]:
    """Dotted paths of all fields, nested sections opened."""
    found = set()
    for name, info in model.model_fields.items():
        inner = info.annotation
        is_section = isinstance(inner, type) and issubclass(inner, BaseModel)
        found |= fields(inner, f"{above}{name}.") if is_section else {f"{above}{name}"}
    return found


def keys(values: Any, above: str = "") -> set[str]:
    """Dotted paths of all keys of a YAML mapping, with those in between."""
    if not isinstance(values, dict):
        return set()
    return {f"{above}{key}" for key in values} | {
        path for key, value in values.items() for path in keys(value, f"{above}{key}.")
    }


def set_by_recipes() -> set[str]:
    found = set()
    for path in RECIPES:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        found |= keys(values) | {field for arm in values.get("arms", {}).values() for field in arm}
    return found


def named_by_pages() -> set[str]:
    """In YAML blocks, or as `section.field` in the text."""
    found = set()
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
            found |= keys(yaml.safe_load(block))
        found |= set(re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+)(?:[:=][^`]*)?`", text))
    return found


OPTIONS = sorted(fields(Recipe) - OF_EVERY_RECIPE)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_in_a_recipe_or_has_a_case_in_the_docs(option: str) -> None:
    # customize.backbone repeats the fields of backbone
    assert option.removeprefix("customize.") in KNOWN if option.startswith("customize.backbone.") else option in KNOWN


KNOWN = set_by_recipes() | named_by_pages()


def test_the_pages_name_no_field_that_does_not_exist() -> None:
    sections = {option.partition(".")[0] for option in OPTIONS}
    unknown = {path for path in named_by_pages() if path.partition(".")[0] in sections} - {
        option[:end] for option in OPTIONS for end in [len(option), *(m.start() for m in re.finditer(r"\.", option))]
    }
    free = (
        "tasks.seed_images.",
        "embed.heads.",
        "retrieve.min_score_of.",
        "evaluate.datasets.",
        "evaluate.train.",
        "evaluate.captions.",
        "evaluate.segmentation.",
        "evaluate.detection.",
        "evaluate.proposals.",
    )  # whose keys the user names
    assert {path for path in unknown if not path.startswith(free)} == set()


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_every_shipped_recipe_loads_and_fits_its_own_workers(path: Path) -> None:
    recipe = load_recipe(str(path))
    for arm in recipe.arm_names():
        check_workers(recipe.arm(arm).customize)
