"""A database is found by its own URI, by that of a run, and by a recipe; its model by what each of them says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from react_ray import open_database
from react_ray.clip.config import BackboneConfig
from react_ray.errors import ArtifactMissing, BackboneError, ConfigError
from react_ray.recipe import load_recipe
from tests.support.searchable import ANIMALS, BASE, write_searchable


def recipe_file(folder: Path) -> str:
    path = folder / "mine.yaml"
    values = {
        "name": "mine",
        "out": str(folder / "run"),
        "database": str(folder / "run/database"),
        "backbone": {"name": BASE.name, "pretrained": BASE.pretrained},
        "ingest": {"source": "sample://pool.parquet"},
        "retrieve": {"keys": ["image"]},
    }
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_a_recipe_a_run_and_a_database(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path)
    write_searchable(str(tmp_path / "run/database"), [ANIMALS])
    (tmp_path / "run/recipe.yaml").write_text(load_recipe(recipe).yaml())
    for uri, key in ((recipe, "image"), (str(tmp_path / "run"), "image"), (str(tmp_path / "run/database"), "text")):
        database = open_database(uri)
        assert database.uri == str(tmp_path / "run/database")
        assert database.keys[0] == key
        assert database.search("a violin", 1, "text")[0].caption == "a violin"


def test_a_recipe_with_overrides(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path)
    write_searchable(str(tmp_path / "elsewhere"), [ANIMALS])
    with pytest.raises(ArtifactMissing):
        open_database(recipe)
    database = open_database(recipe, overrides=[f"database={tmp_path}/elsewhere"])
    assert database.search("a church", 1, "text")[0].caption == "a church"
    with pytest.raises(ConfigError, match="no such field"):
        open_database(recipe, overrides=["databas=x"])


def test_weights_that_lie_elsewhere_are_found_by_the_run_beside_or_by_what_is_given(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path)
    uri = str(tmp_path / "run/database")
    write_searchable(uri, [ANIMALS], tag="gone.safetensors")
    with pytest.raises(BackboneError, match=r"gone\.safetensors.*search a RECIPE, or pass backbone="):
        open_database(uri).search("a duck")
    given = {"name": BASE.name, "pretrained": BASE.pretrained}
    for backbone in (given, BackboneConfig.model_validate(given)):
        assert open_database(uri, backbone).search("a duck on a pond", 1, "text")[0].caption == "a duck on a pond"
    (tmp_path / "run/recipe.yaml").write_text(load_recipe(recipe).yaml())
    assert open_database(uri).search("a duck on a pond", 1, "text")[0].caption == "a duck on a pond"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match=r"is no embedded database, and no run with a recipe\.yaml; run"):
        open_database(str(tmp_path / "nothing"))


LIGHT = """
import sys
from react_ray import open_database
assert open_database(sys.argv[1]).search("a horse", 1, "text")[0].caption == "a horse"
print(*sorted({"ray", "torch", "open_clip", "pandas", "torchvision", "react_ray.recipe"} & set(sys.modules)))
"""


def test_a_sentence_is_searched_without_ray_and_torch(tmp_path: Path) -> None:
    write_searchable(str(tmp_path / "database"), [ANIMALS])
    command = [sys.executable, "-c", LIGHT, str(tmp_path / "database")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.stdout, ended.returncode) == ("\n", 0), ended.stderr
