"""Class names that a database has and one that it does not have, from the recipe to the line in the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from react_ray.artifact import open_artifact
from react_ray.errors import RetrievalError
from react_ray.kinds import HITS, RETRIEVED
from react_ray.recipe import Recipe, load_recipe
from react_ray.selection.name_match import NameMatch
from react_ray.stages import embed, ingest, retrieve
from react_ray.storage import local_file
from tests.support.small_run import small_recipe

NAMES = ["accordion", "banana", "bicycle", "key", "violin"]
TEMPLATES = ["{}", "an emoji of {}", "icon of {}"]


@pytest.fixture(scope="module")
def pool(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,500 captions of the sample's pool, with all that name a class, embedded by the sample's base CLIP."""
    folder = tmp_path_factory.mktemp("match")
    table = pq.read_table(local_file("sample://pool.parquet"), columns=["image", "caption"])
    finder = NameMatch([(number, 0, name) for number, name in enumerate(NAMES)])
    named = pa.array([bool(finder.find(text)) for text in table["caption"].to_pylist()])
    others = pc.invert(named)
    kept = pa.concat_tables([table.filter(named), table.filter(others).slice(0, 1500 - named.true_count)])
    pq.write_table(kept, folder / "pool.parquet")
    recipe = recipe_of(folder, "first")
    ingest.run(recipe)
    embed.run(recipe)
    return folder


def recipe_of(folder: Path, run: str, names: list[str] | None = None, **retrieve: Any) -> Recipe:
    values = {
        "out": str(folder / run),
        "tasks": {"name": "objects", "class_names": names or NAMES, "templates": TEMPLATES},
        "backbone": {"name": "sample://base_clip.json", "pretrained": "sample://base_clip.safetensors"},
        "ingest": {"source": str(folder / "pool.parquet"), "rows_per_part": 500},
        "embed": {"images": False},
        "retrieve": {"keys": ["text"], "k": 12, "search": "exact", "prompts": "averaged"} | retrieve,
        "evaluate": {"datasets": {}},
        "arms": {},
    }
    return load_recipe(small_recipe(folder, **values))


def report_of(recipe: Recipe) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(recipe.out, "selection.json").read_text())
    return found


def test_a_class_that_the_database_does_not_have_is_flagged_in_the_summary_and_the_report(pool: Path) -> None:
    recipe = recipe_of(pool, "plain")
    retrieved = retrieve.run(recipe)
    report = report_of(recipe)
    match = {row["class_name"]: row["match"] for row in report["classes"]}
    assert report["flagged"] == ["accordion (objects)"]
    assert match["accordion"]["flags"] == ["unnamed", "weak"] and match["accordion"]["named"] == 0
    assert match["accordion"]["advice"] and report["classes"][0]["score_max"] > 0.9
    assert match["banana"]["named"] > 0 and match["banana"]["z"] > match["accordion"]["z"]
    assert match["banana"]["near_duplicates"] is None, "no image was embedded"
    (told,) = [line for line in retrieved.facts.summary if "do not look like" in line]
    assert told.startswith("1 of 5 classes do not look like what was asked for: accordion (objects); try")
    hits = open_artifact(f"{recipe.out}/hits", HITS)
    assert hits.rows == 5 * 12, "random queries have hits of their own"


def test_min_match_leaves_it_out_and_counts_its_pairs(pool: Path) -> None:
    plain = report_of(recipe_of(pool, "plain")) if Path(pool, "plain/selection.json").exists() else {}
    recipe = recipe_of(pool, "dropped", min_match=1.1)
    retrieved = retrieve.run(recipe)
    report = report_of(recipe)
    counts = {row["class_name"]: row["pairs"] for row in report["classes"]}
    assert report["dropped_classes"] == ["accordion (objects)"] and counts["accordion"] == 0
    assert all(counts[name] > 0 for name in NAMES[1:])
    lost = report["funnel"]["pairs of 1 classes below min_match"]
    assert lost > 0 and (not plain or lost == plain["classes"][0]["pairs"])
    found = pa.concat_tables(open_artifact(f"{recipe.out}/retrieved", RETRIEVED).tables())
    matches = [match["class_id"] for row in found["matches"].to_pylist() for match in row]
    assert set(matches) == set(found["class_id"].to_pylist()) == {1, 2, 3, 4}
    assert "1 classes are below retrieve.min_match and got no pairs: accordion (objects)" in retrieved.facts.summary


def test_a_lone_class_below_min_match_is_refused_with_what_to_do(pool: Path) -> None:
    with pytest.raises(RetrievalError, match=r"no class reaches retrieve.min_match=1\.1; lower it, add synonyms"):
        retrieve.run(recipe_of(pool, "lone", names=["accordion"], min_match=1.1))


def test_string_matches_and_random_pairs_say_nothing_of_a_match(pool: Path) -> None:
    recipe = recipe_of(pool, "string", selection="string")
    retrieve.run(recipe)
    report = report_of(recipe)
    assert {row["match"] for row in report["classes"]} == {None} and report["flagged"] == []
    assert not Path(recipe.out, "random_hits").exists()
