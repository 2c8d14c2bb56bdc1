"""Class names that a database has and one that it does not have, from the recipe to the line in the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray import schema
from react_ray.artifact import open_artifact
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.draft import create
from react_ray.errors import RetrievalError
from react_ray.gated.load import load_backbone
from react_ray.kinds import EMBEDDINGS, HITS, PAIRS, RETRIEVED, EmbeddingsFacts, PairsFacts
from react_ray.pair_id import pair_ids
from react_ray.recipe import ClusterConfig, Recipe
from react_ray.runtime.cluster import is_running, on_demand
from react_ray.selection.name_match import NameMatch
from react_ray.stages import retrieve
from react_ray.storage import local_file
from react_ray.vectors import embeddings_table

NAMES = ["accordion", "banana", "bicycle", "guitar", "violin"]
BASE = {"name": "sample://base_clip.json", "pretrained": "sample://base_clip.safetensors"}
PER_PART = 500
TEMPLATES = ["{}", "an emoji of {}", "icon of {}"]


@pytest.fixture(autouse=True)
def no_ray() -> Iterator[None]:
    """A small database is searched by this process."""
    with on_demand(ClusterConfig()):
        yield
        assert not is_running()


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(load_backbone(BackboneConfig(**BASE)), 256, "cpu")


@pytest.fixture(scope="module")
def pool(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of 1,500 captions of the sample's pool, with all that name a class."""
    folder = tmp_path_factory.mktemp("match")
    captions = pq.read_table(local_file("sample://pool.parquet"), columns=["caption"])["caption"].to_pylist()
    finder = NameMatch([(number, 0, name) for number, name in enumerate(NAMES)])
    named = [text for text in captions if finder.find(text)]
    others = [text for text in captions if not finder.find(text)]
    write(folder / "database", [*named, *others][:1500], embedder)
    return folder


def write(database: Path, captions: list[str], embedder: Embedder) -> None:
    num_parts = -(-len(captions) // PER_PART)
    pairs = create(f"{database}/pairs", PAIRS, {}, {}, num_parts)
    embeddings = create(f"{database}/embeddings", EMBEDDINGS, {"images": False, "captions": True}, {}, num_parts)
    for part in range(num_parts):
        texts = captions[part * PER_PART : (part + 1) * PER_PART]
        ids = pair_ids(part, len(texts))
        pairs.commit(part, pa.table({"pair_id": ids, "url": [f"http://e.org/{i}" for i in ids], "caption": texts}), 0.0)
        text_ND = embedder.embed_texts(texts)
        status = np.array([schema.OK] * len(texts), object)
        embeddings.commit(
            part, embeddings_table(pa.array(ids), np.full_like(text_ND, np.nan), text_ND, status, {}), 0.0
        )
    pairs.seal(PairsFacts())
    embeddings.seal(EmbeddingsFacts(embedder.backbone.describe(), embedder.backbone.dim))


def recipe_of(folder: Path, run: str, names: list[str] | None = None, **retrieve: Any) -> Recipe:
    values = {
        "name": "match",
        "database": str(folder / "database"),
        "out": str(folder / run),
        "tasks": {
            "name": "objects",
            "class_names": names or NAMES,
            "templates": ["{}", "an emoji of {}", "icon of {}"],
        },
        "backbone": BASE,
        "ingest": {"source": "none"},
        "download": {"of": "retrieved"},
        "retrieve": {"keys": ["text"], "k": 12, "search": "exact", "prompts": "averaged"} | retrieve,
    }
    return Recipe.model_validate(values)


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
    assert match["accordion"]["advice"] and report["classes"][0]["score_max"] > 0.8
    assert match["banana"]["named"] > 0 and match["banana"]["z"] > match["accordion"]["z"]
    assert match["banana"]["near_duplicates"] is None, "no image was embedded"
    (told,) = [line for line in retrieved.facts.summary if "do not look like" in line]
    assert told.startswith("1 of 5 classes do not look like what was asked for: accordion (objects); try")
    hits = open_artifact(f"{recipe.out}/hits", HITS)
    assert hits.rows == 5 * 12, "random queries have hits of their own"


def test_a_database_of_thirty_pairs_is_too_small_to_say_anything(embedder: Embedder, tmp_path: Path) -> None:
    write(tmp_path / "database", [f"a drawing of tray {number}" for number in range(30)], embedder)
    recipe = recipe_of(tmp_path, "run", names=["accordion"])
    retrieved = retrieve.run(recipe)
    report = report_of(recipe)
    assert report["flagged"] == [] and report["classes"][0]["match"]["z"] is None
    assert "cannot be said" in retrieved.facts.summary[-1]


def test_sentences_are_measured_against_random_words_without_a_template(pool: Path) -> None:
    recipe = recipe_of(pool, "sentences")
    tasks = recipe.tasks.model_copy(update={"queries": ["banana", "accordion player"]})
    retrieve.run(recipe.model_copy(update={"tasks": tasks}))
    match = {row["class_name"]: row["match"] for row in report_of(recipe)["classes"][len(NAMES) :]}
    assert match["accordion player"]["flags"] and match["accordion player"]["z"] is not None


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
