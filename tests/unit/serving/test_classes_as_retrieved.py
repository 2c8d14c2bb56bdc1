"""The pairs of each class of POST /v1/classes are those that `retrieve` of the served recipe selects, by any rules."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.draft import create
from react_ray.gated.load import load_backbone
from react_ray.kinds import REFERENCES
from react_ray.recipe import Recipe, recipe_of
from react_ray.runtime.cluster import on_demand
from react_ray.serving.api import ClassesBody
from react_ray.serving.classes import classes
from react_ray.serving.service import Service
from react_ray.stages import retrieve
from react_ray.stages.retrieval.eval_images import ReferencePart
from tests.support.screened import NAMES, picture, write_screened
from tests.support.searchable import BASE, write_index
from tests.support.serving import served, serving_recipe

Pairs = dict[str, list[tuple[int, float]]]  # class -> (pair_id, cosine), best first
TASK = {"name": "things", "class_names": NAMES[:5], "templates": ["a {}", "{}"]}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("screened") / "database")
    write_screened(uri)
    write_index(uri)
    return uri


def selected(recipe: Recipe) -> Pairs:
    """As `retrieve` stores them: a pair counts for its class, or for every class that it matches."""
    with on_demand(recipe.cluster):
        rows = pa.concat_tables(retrieve.run(recipe).tables(["pair_id", "class_id", "matches"])).to_pylist()
    found: dict[str, dict[int, float]] = {name: {} for name in TASK["class_names"]}
    for row in rows:
        for match in row["matches"]:
            if match["class_id"] == row["class_id"] or not recipe.retrieve.exclusive:
                of_class = found[TASK["class_names"][match["class_id"]]]
                of_class[row["pair_id"]] = max(of_class.get(row["pair_id"], -1.0), match["score"])
    return {name: ordered(of_class.items()) for name, of_class in found.items()}


def ordered(pairs: Any) -> list[tuple[int, float]]:
    """To three digits: the server embeds sentences without torch, in float16 too."""
    return sorted(((pair, round(score, 3)) for pair, score in pairs), key=lambda one: (-one[1], one[0]))


def shown(recipe: Recipe, body: dict[str, Any]) -> tuple[Pairs, Any]:
    async def once() -> Any:
        async with served(recipe) as client:
            return await client.post("/v1/classes", {"task": "things", "per_class": 500, **body})

    status, found = asyncio.run(once())
    assert status == 200, found
    pairs = {}
    for one in found["classes"]:
        hits, num = one["hits"], one["num_selected"]
        assert len({hit["pair_id"] for hit in hits}) == len(one["scores"]) == len(hits) >= num
        pairs[one["name"]] = ordered((hit["pair_id"], hit["score"]) for hit in hits[:num])
    return pairs, found


def recipe_over(database: str, out: Path, section: dict[str, Any], **sections: Any) -> Recipe:
    retrieve_section = {"keys": ["image", "text"], "pairs_per_class": 12} | section
    given = {"cluster": {"num_cpus": 2}, "tasks": TASK, "retrieve": retrieve_section, "out": str(out)}
    return serving_recipe(database, **(given | sections))


CASES: list[dict[str, Any]] = [
    {"fusion": "z-score", "dedup": {"url": True}, "max_per_domain": 5},
    {"fusion": "rank", "dedup": {"sha256": True, "cosine": 0.9}, "exclusive": False},
    {"fusion": "score", "dedup": {"phash": 6}, "filters": ["width >= 10", "host != c.org"], "max_pairs": 40},
    {"fusion": "rank", "k": 9, "min_score": 0.3, "prompts": "averaged"},
    {"fusion": "z-score", "keys": ["image", "text"], "min_score": 0.2, "dedup": {"url": True, "phash": 6}},
    {"fusion": "score", "keys": ["text"], "dedup": {"cosine": 0.9}, "exclusive": False, "pairs_per_class": 30},
    {"fusion": "score", "min_match": 1.1, "keys": ["text"]},
    {"image_share": 0.4, "min_score_of": {"image": 0.1, "text": 0.3}},
    {"min_image_score": 0.15, "keys": ["text"], "exclusive": False, "dedup": {"url": True}},
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_class_list_shows_what_retrieve_selects(database: str, tmp_path: Path, number: int) -> None:
    random = np.random.default_rng(number)
    exclude = [int(pair) for pair in random.integers(0, 48, 6) + (random.integers(0, 3, 6) << 20)]
    recipe = recipe_over(database, tmp_path / "out", CASES[number] | {"exclude": exclude})
    pairs, found = shown(recipe, {})
    assert pairs == selected(recipe) and not {pair for one in pairs.values() for pair, _ in one} & set(exclude)
    assert found["differs"] == [] and found["retrieve"]["pairs_per_class"] == recipe.retrieve.pairs_per_class
    folded = {pair for one in found["classes"] for hit in one["hits"] for pair in hit["folded"]}
    assert bool(folded) == ("dedup" in CASES[number])


def test_what_is_near_to_evaluation_sets_is_left_out_once_they_are_known(database: str, tmp_path: Path) -> None:
    source = str(tmp_path / "sets.parquet")
    pq.write_table(pa.table({"image": [picture(number) for number in range(12)]}), source)
    recipe = recipe_over(database, tmp_path / "out", {"decontaminate": {"datasets": [source], "phash": 6}})
    before, answer = shown(recipe, {})
    [told] = answer["differs"]
    assert told.startswith("`retrieve` leaves out what is near to the sets")
    made_by = {"sets": [[source, 0]], "vectors": False, "backbone": load_backbone(BASE).describe()}
    references = create(f"{tmp_path}/out/references", REFERENCES, made_by, {}, 1)  # as the stage, which would start Ray
    part = ReferencePart(None, 1, 0, 1, references)
    part.setup()
    part(0, pq.read_table(source))
    references.seal()
    after, answer = shown(recipe, {})
    assert after == selected(recipe) != before and not answer["differs"]


def told_in_no_time(recipe: Recipe) -> list[str]:
    async def once() -> Any:
        service = Service(recipe)
        async with served(recipe, service=service):
            return await classes(service, service.now, ClassesBody(task="things"))  # without the timeout of its route

    found = asyncio.run(once())
    assert all(one["num_selected"] for one in found["classes"])
    told: list[str] = found["differs"]
    return told


def test_a_class_list_is_shown_in_time_though_retrieve_searches_deeper(database: str, tmp_path: Path) -> None:
    recipe = recipe_over(database, tmp_path, {"pairs_per_class": 30}, serve={"timeout_s": 1e-9})
    assert told_in_no_time(recipe) == [
        "`retrieve` searches deeper for classes that are short of pairs; ask for fewer classes to see it."
    ]


def test_a_class_list_asks_by_as_many_templates_as_there_is_time_for(database: str, tmp_path: Path) -> None:
    tasks = TASK | {"templates": [f"{{}} {number}" for number in range(250)]}
    recipe = recipe_over(database, tmp_path / "out", {"pairs_per_class": 4}, tasks=tasks)
    hasty = recipe.model_copy(update={"serve": recipe.serve.model_copy(update={"timeout_s": 1e-9})})
    told = "`retrieve` asks by 250 templates; there was time for {} of them here."
    assert told_in_no_time(hasty)[0] == told.format(13)  # 65 sentences at once
    expected = selected(recipe)
    assert told_in_no_time(hasty)[0] == told.format(1)  # all are embedded now, and are too many to search
    pairs, found = shown(recipe, {})
    assert pairs == expected and found["differs"] == []


def test_a_class_whose_hits_the_rules_leave_out_is_told_so(database: str, tmp_path: Path) -> None:
    _, found = shown(recipe_over(database, tmp_path / "out", {"min_score": 1.0, "keys": ["text"]}), {})
    expected = "It gets no pairs: other classes match its hits better, or the rules leave them out. Use other names"
    assert all(not one["hits"] and one["flagged"].startswith(expected) for one in found["classes"])
    assert found["advice"] is None


def test_templates_are_doubted_where_most_classes_have_no_match(database: str, tmp_path: Path) -> None:
    classes_of = {"task": None, "templates": ["a map of the {} railway"]}
    recipe = recipe_over(database, tmp_path / "out", {"keys": ["text"], "exclusive": False})
    _, found = shown(recipe, classes_of | {"classes": ["Zwolle", "Katowice", "Turku", "Plovdiv"]})
    assert all(one["num_selected"] and one["flagged"] for one in found["classes"])
    assert found["advice"] == ("So many at once point to templates or a key that do not fit the database: try others.")
    _, found = shown(recipe, {})
    assert found["advice"] is None


def test_classes_of_one_name_show_the_same_pairs(database: str, tmp_path: Path) -> None:
    names = [["crane", "heron"], "horse", ["crane", "rocket"]]
    tasks = {"name": "things", "class_names": names, "templates": ["a {}"], "duplicates": "share"}
    _, answer = shown(recipe_over(database, tmp_path, {}, tasks=tasks), {})
    heron, horse, rocket = answer["classes"]
    assert heron["hits"] == rocket["hits"] and {hit["prompt"] for hit in heron["hits"]} >= {"a heron", "a rocket"}
    assert heron["synonyms"] == ["heron"] and rocket["synonyms"] == ["rocket"] and horse["num_selected"] == 12


def test_a_list_of_ones_own_adds_to_the_rules_of_the_recipe_and_the_saved_recipe_has_them(
    database: str, tmp_path: Path
) -> None:
    section = {"fusion": "z-score", "filters": ["width >= 10"], "min_score": 0.3, "exclude": [5]}
    section |= {"dedup": {"url": True}}
    body = {"classes": [{"name": "heron"}], "filters": ["host != c.org"], "min_score": 0.1, "dedup": 0.9}
    body |= {"exclude": [7, 5], "key": "text", "exclusive": False, "pairs_per_class": 4}

    async def both() -> tuple[Any, Any]:
        async with served(recipe_over(database, tmp_path / "out", section)) as client:
            return (await client.post("/v1/classes", body))[1], (await client.post("/v1/recipe", body))[1]

    found, written = asyncio.run(both())
    saved = recipe_of(written["yaml"].encode(), "it").retrieve
    assert saved.filters == ["width >= 10", "host != c.org"] and saved.exclude == [5, 7] and saved.keys == ["text"]
    assert (saved.min_score, saved.dedup.url, saved.dedup.cosine, saved.fusion) == (0.3, True, 0.9, "z-score")
    assert found["retrieve"] == saved.model_dump(mode="json", exclude_defaults=True, exclude={"exclude"})
    [heron] = found["classes"]
    assert heron["num_selected"] == 4 and not {5, 7} & {hit["pair_id"] for hit in heron["hits"]}
