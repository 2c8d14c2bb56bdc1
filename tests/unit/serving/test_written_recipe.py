"""What the class list showed is what `retrieve` selects by the recipe that was saved, without the rejected pairs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa

from react_ray.index.deleted import delete_pairs
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.cluster import on_demand
from react_ray.stages import retrieve
from tests.support.searchable import png, write_index, write_searchable
from tests.support.serving import served, serving_recipe

NAMES = ["heron", "horse", "apple", "violin", "rocket"]
WORDS = ["by the water", "at night", "in a field", "on a table", "drawn with a pencil", "for children", "in red", "old"]
CLASSES = {"classes": [{"name": name} for name in NAMES[:4]], "templates": ["a {}", "{}"], "key": "text"}


def write(folder: Path) -> str:
    """Each word of NAMES in many contexts, with copies."""
    uri = str(folder / "database")
    captions = [f"{'a ' if i % 2 else ''}{name} {word}" for i, word in enumerate(WORDS) for name in NAMES]
    write_searchable(uri, [captions, [f"another {caption}" for caption in captions], captions[:9]], png(folder))
    write_index(uri, num_shards=1)
    return uri


def selected(recipe: Recipe) -> dict[str, list[tuple[int, float]]]:
    """class -> its pairs with their scores, best first, as `retrieve` stores them."""
    with on_demand(recipe.cluster):
        table = pa.concat_tables(retrieve.run(recipe).tables(["pair_id", "class_id", "score"]))
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in NAMES[:4]}
    for row in sorted(table.to_pylist(), key=lambda row: (-row["score"], row["pair_id"])):
        found[NAMES[row["class_id"]]].append((row["pair_id"], round(row["score"], 3)))
    return found


def test_the_saved_recipe_retrieves_what_was_shown_and_nothing_that_was_rejected(tmp_path: Path) -> None:
    uri = write(tmp_path)
    delete_pairs(uri, pa.array([3]).to_numpy())

    async def asked() -> tuple[Any, Any]:
        async with served(serving_recipe(uri)) as client:
            _, shown = await client.post("/v1/classes", CLASSES | {"pairs_per_class": 12, "per_class": 12})
            rejected = [shown["classes"][0]["hits"][0]["pair_id"], shown["classes"][2]["hits"][1]["pair_id"]]
            body = CLASSES | {"pairs_per_class": 12, "name": "saved"}
            return shown, [(await client.post("/v1/recipe", body | {"exclude": some}))[1] for some in ([], rejected)]

    shown, written = asyncio.run(asked())
    recipes = []
    for number, answer in enumerate(written):
        (tmp_path / f"{number}.yaml").write_text(answer["yaml"])
        recipes.append(load_recipe(f"{tmp_path}/{number}.yaml", [f"out={tmp_path}/run{number}", "cluster.num_cpus=2"]))
    wanted = {
        one["name"]: [(hit["pair_id"], round(hit["score"], 3)) for hit in one["hits"][: one["num_selected"]]]
        for one in shown["classes"]
    }
    assert selected(recipes[0]) == wanted
    excluded = {int(pair) for pair in recipes[1].retrieve.exclude}
    without = selected(recipes[1])
    assert len(excluded) == 2 and not {pair for hits in without.values() for pair, _ in hits} & excluded
    assert {name: len(hits) for name, hits in without.items()} == {name: len(hits) for name, hits in wanted.items()}
    for name, hits in wanted.items():
        assert [hit for hit in hits if hit[0] not in excluded] == without[name][
            : 12 - len(excluded & dict(hits).keys())
        ]


def test_what_the_served_recipe_keeps_out_stays_out(tmp_path: Path) -> None:
    near = {"datasets": ["all"], "phash": 3}
    sections = {
        "retrieve": {"keys": ["text"], "exclude": [5, "s3://bucket/never.txt"], "decontaminate": near},
        "evaluate": {"datasets": {"birds": "s3://bucket/birds.parquet", "fish": "fish.parquet"}},
    }

    async def asked() -> Any:
        async with served(serving_recipe(write(tmp_path), **sections)) as client:
            return await client.post("/v1/recipe", CLASSES | {"exclude": [7, 5]})

    _, answer = asyncio.run(asked())
    (tmp_path / "saved.yaml").write_text(answer["yaml"])
    kept = load_recipe(f"{tmp_path}/saved.yaml").retrieve
    assert kept.exclude == [5, "s3://bucket/never.txt", 7]
    fish = str(Path("fish.parquet").absolute())
    assert kept.decontaminate.sources({}) == ["s3://bucket/birds.parquet", fish] and kept.decontaminate.phash == 3


def test_a_file_of_excluded_pairs_counts_as_a_list(tmp_path: Path) -> None:
    uri = write(tmp_path)
    (tmp_path / "rejected.txt").write_text("0\n5\n")
    base = serving_recipe(uri, tasks={"class_names": NAMES[:4], "templates": ["a {}"]}, cluster={"num_cpus": 2})
    runs = []
    for number, exclude in enumerate(([0, 5], [f"{tmp_path}/rejected.txt"], [])):
        retrieve_section = base.retrieve.model_copy(update={"exclude": exclude, "k": 10, "keys": ["text"]})
        runs.append(selected(base.model_copy(update={"out": f"{tmp_path}/r{number}", "retrieve": retrieve_section})))
    assert runs[0] == runs[1] != runs[2]
