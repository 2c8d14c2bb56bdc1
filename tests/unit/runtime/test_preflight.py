"""A run belongs to one recipe from its first result on."""

from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.errors import ArtifactMismatch
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.preflight import begin

RECIPE = """
name: test
database: {0}/database
out: {0}/run
backbone: {{name: ViT-B-32}}
ingest: {{source: "sample://pool.parquet"}}
"""


def recipe(folder: Path, *overrides: str) -> Recipe:
    (folder / "recipe.yaml").write_text(RECIPE.format(folder))
    return load_recipe(str(folder / "recipe.yaml"), list(overrides))


@pytest.mark.parametrize("left", ["", "name: [", "\x00", "of_tomorrow: 1", "- 1"])
def test_a_run_that_ended_before_its_first_result_belongs_to_no_recipe(tmp_path: Path, left: str) -> None:
    begin(recipe(tmp_path), "ingest")
    (tmp_path / "run/costs.json").write_text("{}")
    if left:
        (tmp_path / "run/recipe.yaml").write_text(left)
    begin(recipe(tmp_path, "seed=7"), "ingest")
    assert load_recipe(str(tmp_path / "run/recipe.yaml")).seed == 7


@pytest.mark.parametrize(
    ("left", "shown"),
    [
        ("", "is a run of another recipe: recipe.seed was 0, now 7"),
        ("name: [", r"is not YAML .* at line 1, column 8"),
        ("of_tomorrow: 1", "not a recipe of this version of react_ray .name: missing"),
    ],
)
def test_a_run_with_results_is_not_taken_by_another_recipe(tmp_path: Path, left: str, shown: str) -> None:
    begin(recipe(tmp_path), "ingest")
    (tmp_path / "run/retrieved").mkdir()
    (tmp_path / "run/retrieved/_building.json").write_text("{}")
    if left:
        (tmp_path / "run/recipe.yaml").write_text(left)
    whole = (tmp_path / "run/recipe.yaml").read_text()
    with pytest.raises(ArtifactMismatch, match=shown) as caught:
        begin(recipe(tmp_path, "seed=7"), "ingest")
    assert str(caught.value).isprintable() and "use out=" in str(caught.value)
    assert (tmp_path / "run/recipe.yaml").read_text() == whole
