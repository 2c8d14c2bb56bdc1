"""Labelled images in customisation: both stages of linear heads, on a finished retrieval."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from react_ray.artifact import open_artifact
from react_ray.kinds import HEAD, MODEL
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages import evaluate

LABELLED = {"customize.labelled": "sample://validation.parquet", "customize.labelled_shots": 2}
LINEAR = {"customize.method": "linear", "customize.lr": 0.01, "customize.batch_size": 16}


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    for name in ("database", "run"):
        shutil.copytree(finished / name, tmp_path / name)
    return tmp_path


def recipe_of(finished: Path, copied: Path, arms: dict[str, dict[str, object]], *changes: str) -> Recipe:
    written = yaml.safe_dump(arms, default_flow_style=True, width=10_000, sort_keys=False).strip()
    places = [f"database={copied / 'database'}", f"out={copied / 'run'}"]
    return load_recipe(str(finished / "recipe.yaml"), [*places, f"arms={written}", *changes])


def test_linear_heads_learn_from_pairs_labels_or_both_and_are_scored_like_any_other(
    finished: Path, copied: Path, local_ray: None
) -> None:
    from react_ray.stages import customize

    arms: dict[str, dict[str, object]] = {
        "pairs": dict(LINEAR),
        "mixed": {**LINEAR, **LABELLED, "customize.head": True, "customize.head_steps": 20},
        "alone": {**LINEAR, **LABELLED, "customize.labelled_share": 1},
    }
    recipe = recipe_of(finished, copied, arms)
    made = customize.run(recipe)
    assert [one.content for one in customize.run(recipe)] == [one.content for one in made]
    scores = {one.uri.partition("/arms/")[2]: one.facts.scores for one in evaluate.run(recipe)}
    assert {"pairs/scores", "mixed/scores", "mixed/scores_head", "alone/scores"} <= scores.keys()
    pairs, mixed, alone = (open_artifact(f"{recipe.out}/arms/{arm}/model", MODEL) for arm in arms)
    assert "labelled_retrieved" not in pairs.manifest.parents
    assert set(mixed.manifest.parents) == {"retrieved", "images", "labelled_retrieved", "labelled_images"}
    assert len({pairs.content, mixed.content, alone.content}) == 3
    assert "are labelled (50 %)" in mixed.facts.summary[0] and "are labelled (100 %)" in alone.facts.summary[0]
    assert "customize.labelled" not in pairs.storage.read("recipe.yaml").decode()
    card = json.loads(mixed.storage.read("model_card.json"))["data"]["labelled"]
    assert card["shots"] == 2 and 0 < card["num_images"] <= 2 * card["num_classes"]
    head = open_artifact(f"{recipe.out}/arms/mixed/head", HEAD)
    assert "labelled images alone" in head.facts.summary[0]
