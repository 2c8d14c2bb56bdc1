"""Labelled images in customisation: both stages of linear heads, on a finished retrieval."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from react_ray.artifact import open_artifact
from react_ray.kinds import HEAD, MODEL
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages import evaluate
from tests.support.small_run import contents, kill_when, react_ray, small_recipe

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


@pytest.mark.slow
def test_a_customize_with_labels_that_is_killed_in_every_phase_ends_with_the_same_artifacts(
    finished: Path, sample_dir: Path, tmp_path: Path
) -> None:
    some = pq.read_table(sample_dir / "validation.parquet")
    some = some.filter(pc.is_in(some["task"], pa.array(["weather", "food"])))
    pq.write_table(pa.concat_tables([some] * 80), tmp_path / "labelled.parquet")  # three parts
    arm = {"customize.labelled": str(tmp_path / "labelled.parquet"), "customize.head": True, "customize.head_steps": 20}
    folders = {name: tmp_path / name for name in ("undisturbed", "killed")}
    recipes = {}
    for name, folder in folders.items():
        shutil.copytree(finished / "database", folder / "database")
        shutil.copytree(finished / "run", folder / "run", ignore=shutil.ignore_patterns("arms"))
        recipes[name] = small_recipe(folder, arms={"mixed": arm})
    done = react_ray("customize", recipes["undisturbed"])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "are copies of another one" in done.stderr

    made = folders["killed"] / "run/arms/mixed"
    phases = {
        "labelled": lambda: any((made / "labelled/images").glob("part-*.json")),
        "training": lambda: any((made / "checkpoints").glob("step_*")),
        "features": lambda: any((made / "features").glob("part-*.json")),
    }
    kept: dict[Path, int] = {}
    for phase, reached in phases.items():
        kill_when(recipes["killed"], reached, verb="customize", everything=True)
        assert (made / "labelled/retrieved/manifest.json").exists() == (phase != "labelled")
        assert (made / "model/manifest.json").exists() == (phase == "features")
        now = {path: path.stat().st_mtime_ns for path in made.rglob("part-*.json")}
        assert {path: now[path] for path in kept} == kept, "a part that was committed was done again"
        kept = now
    done = react_ray("customize", recipes["killed"])
    assert done.returncode == 0, done.stderr[-3000:]
    same = [contents(str(folder / "database"), str(folder / "run")) for folder in folders.values()]
    assert same[0] == same[1]
    assert {"run/arms/mixed/labelled/retrieved", "run/arms/mixed/model", "run/arms/mixed/head"} <= same[0].keys()
