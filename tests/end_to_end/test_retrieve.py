"""Retrieval on a small pool that has what a web pool has: copies, hosts, test images, bad values."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from react_ray.artifact import open_artifact
from react_ray.draft import create
from react_ray.errors import ConfigError, RetrievalError
from react_ray.kinds import ALLOWED, EMBEDDINGS, HITS, PAIRS, QUERIES, RETRIEVED
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages import embed, index, ingest, retrieve
from react_ray.stages.retrieval.candidate_facts import candidate_facts
from react_ray.stages.retrieval.database import Database, open_database
from react_ray.stages.retrieval.gather_pairs import class_vectors
from react_ray.stages.retrieval.select_pairs import random_count
from react_ray.vectors import from_vectors
from tests.support.small_run import react_ray, small_recipe

NAMES = ["owl", "heron", "barn swallow"]
NUM_PAIRS = 240
NO_IMAGE, NO_CAPTION = 229, 230


def drawing(number: int, format: str = "PNG") -> bytes:
    generator = np.random.default_rng(number)
    pixels = np.kron(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8), np.ones((12, 12, 1), np.uint8))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, quality=90)
    return file.getvalue()


@pytest.fixture(scope="module")
def pool(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of 240 pairs in 6 parts.

    Rows 6 and 7 repeat the file of row 5, and row 8 its picture as a JPEG; rows 229 and 230 cannot be trained with.
    """
    folder = tmp_path_factory.mktemp("pool")
    images = [drawing(5 if row in (6, 7) else row) for row in range(NUM_PAIRS)]
    images[8] = drawing(5, "JPEG")
    images[NO_IMAGE] = b"no image"
    captions = [
        f"{('An Owl', 'two herons', 'the barn-swallow', 'no bird')[row % 4]} number {row}" for row in range(NUM_PAIRS)
    ]
    captions[NO_CAPTION] = ""
    table = pa.table(
        {
            "image": images,
            "caption": captions,
            "url": [f"http://host{row % 3}.org/{row}" for row in range(NUM_PAIRS)],
            "NSFW": ["UNLIKELY" if row % 10 else "NSFW" for row in range(NUM_PAIRS)],
            "aesthetic": pa.array([row / 24 for row in range(NUM_PAIRS)], pa.float32()),
        }
    )
    pq.write_table(table, folder / "pool.parquet")
    test = pa.table({"image": [drawing(11), drawing(12, "JPEG"), b"no image"], "task": ["birds"] * 3, "label": NAMES})
    pq.write_table(test, folder / "test.parquet")
    (folder / "seed.png").write_bytes(drawing(34))
    recipe = recipe_of(folder, "first")
    ingest.run(recipe)
    embed.run(recipe)
    index.run(recipe)
    return folder


def recipe_of(folder: Path, run: str, tasks: dict[str, Any] | None = None, **retrieve: Any) -> Recipe:
    values = {
        "out": str(folder / run),
        "tasks": {"name": "birds", "class_names": NAMES, "templates": ["a photo of a {}.", "a drawing of a {}."]}
        | (tasks or {}),
        "ingest": {"source": str(folder / "pool.parquet"), "rows_per_part": 40},
        "retrieve": {"k": 20, "search": "exact"} | retrieve,
        "evaluate": {"datasets": {"test": str(folder / "test.parquet")}},
        "arms": {},
    }
    path = small_recipe(folder, **values)
    return load_recipe(path)


def rows(retrieved: Any) -> np.ndarray:
    """Numbers of the pool's rows, in order."""
    pair_id = pa.concat_tables(retrieved.tables(["pair_id"]))["pair_id"].to_numpy()
    return (pair_id >> 20) * 40 + (pair_id & 0xFFFFF)


EVERYTHING: dict[str, Any] = {
    "k": 20,
    "prompts": "averaged",
    "filters": ["NSFW == UNLIKELY", "aesthetic < 8", "width >= 64", "host not in www.Host0.org"],
    "dedup": {"sha256": True, "phash": 3},
    "decontaminate": {"datasets": ["all"], "phash": 2, "cosine": 0.999},
}
PASSES = [row for row in range(192) if row % 10 and row % 3]  # by NSFW, aesthetic and host


def hits_of(recipe: Recipe, name: str = "hits") -> pa.Table:
    return pa.concat_tables(open_artifact(f"{recipe.out}/{name}", HITS).tables())


@pytest.fixture(scope="module")
def everything(pool: Path) -> Recipe:
    """A retrieval with every setting at once: sentences and a seed image, filters, duplicates, evaluation images."""
    seed = str(pool / "seed.png")
    sentences = [
        "no bird number 31",
        "no bird number 11",
        "no bird number 7",
        "An Owl number 8",
    ]  # their captions are hit
    tasks = {"queries": sentences, "seed_images": {"heron": [seed], "new": [seed]}}
    recipe = recipe_of(pool, "everything", tasks, search="index", **EVERYTHING)
    retrieve.run(recipe)
    return recipe


def test_filters_are_met_and_every_query_still_has_its_k_hits(pool: Path, everything: Recipe) -> None:
    found = rows(open_artifact(f"{everything.out}/retrieved", RETRIEVED))
    assert len(found) > 20 and set(found) <= set(PASSES)
    counts = hits_of(everything).group_by(["query_id", "key"]).aggregate([("pair_id", "count")])
    assert counts.num_rows == 7 * 2 + 2 and set(counts["pair_id_count"].to_pylist()) == {20}
    allowed = pa.concat_tables(open_artifact(f"{everything.out}/allowed", ALLOWED).tables())
    assert np.flatnonzero(allowed["allowed"]).tolist() == PASSES
    exact = everything.model_copy(
        update={"out": str(pool / "exact"), "retrieve": everything.retrieve.model_copy(update={"search": "exact"})}
    )
    assert retrieve.run(exact).content == open_artifact(f"{everything.out}/retrieved", RETRIEVED).content


def test_one_picture_is_retrieved_once_and_none_of_an_evaluation_set(everything: Recipe) -> None:
    found = set(rows(open_artifact(f"{everything.out}/retrieved", RETRIEVED)))
    assert not found & {11}, "its caption was asked for, and its image is in the test set"
    assert len(found & {5, 7, 8}) == 1, "one picture in two files and a JPEG; two of their captions were asked for"
    report = json.loads(Path(everything.out, "selection.json").read_text())
    funnel = report["funnel"]
    assert funnel["pairs in the database"] == NUM_PAIRS and funnel["pass the filters"] == len(PASSES)
    assert funnel["hits"] == 7 * 2 * 20 + 2 * 20
    assert funnel["evaluation phash"] >= 1 and funnel["duplicate phash"] + funnel["duplicate sha256"] >= 1
    dropped = sum(count for reason, count in funnel.items() if reason.startswith(("duplicate", "evaluation")))
    assert funnel["chosen"] == report["pairs"] == len(found) == funnel["distinct pairs above the floor"] - dropped
    assert not list(Path(everything.out, "candidates").rglob("*.parquet"))


@pytest.mark.parametrize("searched", ["index", "exact"])
def test_a_small_database_is_searched_without_ray_with_the_same_result(pool: Path, searched: str) -> None:
    settings = {name: value for name, value in EVERYTHING.items() if name != "decontaminate"} | {"search": searched}
    here, by_ray = (recipe_of(pool, f"{name}_{searched}", **settings) for name in ("here", "by_ray"))
    (pool / "here.yaml").write_text(here.yaml())
    alone = react_ray("retrieve", str(pool / "here.yaml"))
    assert alone.returncode == 0 and "starting Ray" not in alone.stderr, alone.stderr[-2000:]
    assert open_artifact(f"{here.out}/retrieved", RETRIEVED).content == retrieve.run(by_ray).content


def test_seed_images_and_sentences_are_queries_too(everything: Recipe) -> None:
    found = pa.concat_tables(open_artifact(f"{everything.out}/retrieved", RETRIEVED).tables()).to_pylist()
    (seeded,) = [row for row in found if row["caption"].endswith(" 34")]
    assert seeded["score"] == pytest.approx(1, abs=1e-3) and seeded["class_id"] == 1
    assert seeded["matches"][0]["prompt"].endswith("seed.png") and seeded["matches"][0]["key"] == "image"
    assert {match["class_id"] for match in seeded["matches"]} >= {1, 7}
    (asked,) = [row for row in found if row["caption"] == "no bird number 31"]
    assert asked["class_id"] == 3 and asked["matches"][0]["prompt"] == "no bird number 31"
    by_images = hits_of(everything).filter(pc.is_in(hits_of(everything)["query_id"], pa.array([7, 8], pa.int32())))
    assert set(by_images["query_id"].to_pylist()) == {7, 8} and set(by_images["key"].to_pylist()) == {"image"}


def test_the_random_control_keeps_to_the_same_filters_and_drops_the_same_copies(pool: Path) -> None:
    settings = EVERYTHING | {"decontaminate": {"datasets": ["test"], "phash": 2}}
    drawn = retrieve.run(recipe_of(pool, "random", selection="random", max_pairs=40, **settings))
    found = rows(drawn)
    assert random_count(1000, f"{pool}/arm", f"{pool}/random") == random_count(0, f"{pool}/arm", f"{pool}/random") == 40
    assert random_count(7, f"{pool}/arm", f"{pool}/random") == 7
    assert len(set(found)) == 40 and set(found) <= set(PASSES) - {11} and len(set(found) & {5, 7, 8}) <= 1


def test_random_pairs_are_such_as_training_can_use(pool: Path) -> None:
    usable = set(range(NUM_PAIRS)) - {NO_IMAGE, NO_CAPTION}
    assert set(rows(retrieve.run(recipe_of(pool, "all", selection="random", max_pairs=238)))) == usable
    with pytest.raises(ConfigError, match="239 random pairs were asked for, 238 can be used"):
        retrieve.run(recipe_of(pool, "too_many", selection="random", max_pairs=239))


def test_captions_with_a_name_of_the_class_are_the_string_control(pool: Path) -> None:
    tasks = {"class_names": ["owl", ["heron", "herons"], "barn swallow", "bird"]}
    recipe = recipe_of(
        pool, "string", tasks, selection="string", k=2, pairs_per_class=5, keys=["image"], filters=["aesthetic < 5"]
    )
    retrieved = retrieve.run(recipe)
    found = pa.concat_tables(retrieved.tables())
    text_ND = np.concatenate(
        [from_vectors(t["text"]) for t in open_artifact(f"{recipe.database}/embeddings", EMBEDDINGS).tables()]
    )
    class_CD = class_vectors(open_artifact(f"{recipe.out}/queries", QUERIES)).astype(np.float64)
    expected = {}
    for label in range(4):
        named = np.arange(label, 120, 4)
        score = (text_ND[named].astype(np.float64) @ class_CD[label]).astype(np.float32)
        best = named[np.lexsort((named, -score))[:5]]
        expected |= dict.fromkeys(best.tolist(), label)
    assert dict(zip(rows(retrieved).tolist(), found["class_id"].to_pylist(), strict=True)) == expected
    prompts = {match["prompt"] for row in found["matches"].to_pylist() for match in row}
    assert prompts == {"a photo of a owl.", "a photo of a herons.", "a photo of a barn swallow.", "a photo of a bird."}


def test_classes_that_stay_short_are_asked_for_again(pool: Path) -> None:
    settings: dict[str, Any] = {
        "k": 8,
        "max_k": 100_000,
        "pairs_per_class": 60,
        "prompts": "averaged",
        "keys": ["text"],
    }
    recipe = recipe_of(pool, "full", **settings)
    retrieved = retrieve.run(recipe)
    report = json.loads(Path(recipe.out, "selection.json").read_text())
    assert [row["pairs"] for row in report["classes"]] == [60, 60, 60] and report["poor"] == []
    assert [hits_of(recipe, name).num_rows for name in ("hits", "hits_2")] == [3 * 8, 3 * 32]
    again = retrieve.run(recipe_of(pool, "full", **settings))
    assert again.content == retrieved.content and again.facts.summary == retrieved.facts.summary


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "nothing above the floor": (
        {},
        {"min_score": 1.5, "prompts": "averaged", "keys": ["text"]},
        "lower retrieve.min_score",
    ),
    "nothing allowed": (
        {},
        {"filters": ["aesthetic > 9.5", "width > 999"]},
        "none of 240 pairs .*'aesthetic > 9.5' 11, 'width > 999' 0.*relax",
    ),
    "images that never agree": (
        {},
        {"min_image_score": 1.0, "prompts": "averaged", "pairs_per_class": 5},
        "lower retrieve.min_score or min_image_score",
    ),
    "a share of one key": ({}, {"image_share": 0.5, "keys": ["text"], "pairs_per_class": 5}, "keys=\\[image, text\\]"),
    "a share of no number": ({}, {"image_share": 0.5}, "set retrieve.pairs_per_class"),
    "no such column": ({}, {"filters": ["aestetic > 1"]}, "did you mean aesthetic"),
    "an empty database": ({}, {}, "is empty, so nothing can be retrieved"),
    "a radius without sets": ({}, {"decontaminate": {"cosine": 0.9}}, "datasets=\\[all\\]"),
    "sets without a radius": ({}, {"decontaminate": {"datasets": ["all"]}}, "no radius"),
    "an unknown set": (
        {},
        {"decontaminate": {"datasets": ["tset"], "phash": 1}},
        "none of evaluate.datasets \\(test\\)",
    ),
    "images against captions": (
        {"seed_images": {"owl": ["POOL/seed.png"]}},
        {"keys": ["text"]},
        "add image to retrieve.keys",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused_and_leaves_nothing_finished(pool: Path, case: str) -> None:
    tasks, settings, message = REFUSED[case]
    tasks = json.loads(json.dumps(tasks).replace("POOL", str(pool)))
    recipe = recipe_of(pool, case.replace(" ", "-"), tasks, **settings)
    if case == "an empty database":
        recipe = recipe.model_copy(update={"database": str(pool / "nothing")})
        facts = open_artifact(str(pool / "database" / "embeddings"), EMBEDDINGS).facts
        create(str(pool / "nothing" / "pairs"), PAIRS, {}, {}, 0).seal()
        create(str(pool / "nothing" / "embeddings"), EMBEDDINGS, {}, {}, 0).seal(facts)
    with pytest.raises((ConfigError, RetrievalError), match=message):
        retrieve.run(recipe)
    assert not list(Path(recipe.out).rglob("retrieved/*"))


class LargeDatabase(Database):
    @property
    def is_small(self) -> bool:
        return False


def test_the_workers_read_of_a_large_database_what_this_process_reads_of_a_small_one(
    pool: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(pool, "facts")
    small = open_database(recipe)
    large = LargeDatabase(small.pairs, small.embeddings, small.images, small.deleted)
    pair_ids = np.array([3 << 20 | 7, 5, 1 << 20 | 2])  # in any order
    asked = (pair_ids, ["caption", "url", "phash", "image"])
    found = [candidate_facts(str(tmp_path / "candidates"), *asked, each, recipe.cluster) for each in (small, large)]
    assert found[0].to_pylist() == found[1].to_pylist() and found[0]["pair_id"].to_pylist() == pair_ids.tolist()
    assert found[0]["caption"].to_pylist()[0].endswith(" 127")
    assert not list(tmp_path.rglob("*.parquet"))
