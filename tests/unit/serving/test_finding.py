"""A served search answers what the database itself answers, however many groups hold its shards."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from react_ray import open_database
from react_ray.index.config import FLAT, IVF_RABITQ
from react_ray.index.deleted import delete_pairs
from react_ray.search.database import Hit
from react_ray.search.open_database import of_recipe
from react_ray.serving.groups import ShardGroup
from react_ray.serving.local_group import LocalGroup
from react_ray.serving.service import Service
from tests.support.searchable import many, png, write_index, write_searchable
from tests.support.serving import Client, served, serving_recipe

HERON = {"text": "a heron"}
PATIENCE_S = 300


def run(uri: str, *asked: dict[str, Any], **sections: Any) -> list[Any]:
    """The results of these searches."""

    async def all_of() -> list[Any]:
        async with served(serving_recipe(uri, **sections)) as client:
            found = [await client.post("/v1/search", body) for body in asked]
            assert {status for status, _ in found} == {200}, found
            return [one for _, one in found]

    return asyncio.run(all_of())


def told(hits: list[dict[str, Any]]) -> list[tuple[int, float, str]]:
    return [(hit["pair_id"], hit["score"], hit["key"]) for hit in hits]


def wanted(hits: list[Hit]) -> list[tuple[int, float, str]]:
    return [(hit.pair_id, hit.score, hit.key) for hit in hits]


@pytest.mark.parametrize("key", ["text", "image", "both", ""])
def test_hits_are_those_of_the_database(uri: str, key: str) -> None:
    [found] = run(uri, {"query": HERON, "k": 30, "key": key})
    hits = of_recipe(serving_recipe(uri)).search("a heron", 30, key)
    assert told(found["results"][0]["hits"]) == wanted(hits)
    assert [hit["caption"] for hit in found["results"][0]["hits"]] == [hit.caption for hit in hits]
    assert found["coverage"] == 1 and found["recall"] == 1


@pytest.mark.parametrize("kind", [FLAT, IVF_RABITQ])
def test_hits_do_not_depend_on_the_number_of_groups(tmp_path: Path, kind: str) -> None:
    uri = str(tmp_path / "database")
    write_searchable(uri, [many(200), many(200, 300)])
    write_index(uri, num_shards=2, kind=kind)
    recipe = serving_recipe(uri)

    async def of(count: int) -> list[Any]:
        service = Service(recipe)
        service.groups = [LocalGroup(ShardGroup(uri, number, count), service.threads) for number in range(count)]
        async with served(recipe, service=service) as client:
            lists = service.now.plans["text"].lists
            looked_up = {} if lists is None else lists.probes(np.zeros((1, 128)), 1)
            assert len(looked_up) == (kind == IVF_RABITQ and count > 1), "once for all groups"
            bodies = [{"query": HERON, "k": k, "key": key} for k in (1, 10) for key in ("text", "image")]
            return [(await client.post("/v1/search", body))[1]["results"] for body in bodies]

    one = asyncio.run(of(1))
    assert len(one[1][0]["hits"]) == 1
    assert asyncio.run(of(2)) == one and asyncio.run(of(4)) == one


def test_an_image_a_vector_a_pair_and_sums_are_queries(uri: str, tmp_path: Path) -> None:
    database = open_database(uri)
    [image_D] = database.model.embed_images([png(tmp_path)])
    [horse_D, apple_D] = database.model.embed_texts(["a horse", "a red apple"]).astype(np.float32)
    image = base64.b64encode(png(tmp_path)).decode()
    sums = {"sum": [{"text": "a horse", "weight": 2}, {"text": "a red apple", "weight": -0.5}]}
    found = run(
        uri,
        {"queries": [{"image": image}, {"image": f"data:image/png;base64,{image}"}, {"pair_id": 5, "side": "image"}]},
        {"query": {"embedding": (4 * horse_D).tolist()}, "key": "text"},
        {"query": {"pair_id": 2, "side": "text"}, "key": "text"},
        {"query": sums, "key": "text"},
    )
    [of_image, of_url, of_pair] = (told(one["hits"]) for one in found[0]["results"])
    assert of_image == of_url == wanted(database.search(image_D, 20, "image"))
    assert of_pair[0][0] == 5
    [stored_D] = database.model.embed_texts(["a horse"])  # alone, as it was embedded for the database
    assert told(found[1]["results"][0]["hits"]) == wanted(database.search(horse_D, 20, "text"))
    assert told(found[2]["results"][0]["hits"]) == wanted(database.search(stored_D, 20, "text"))
    assert told(found[3]["results"][0]["hits"]) == wanted(database.search(2 * horse_D - 0.5 * apple_D, 20, "text"))


@pytest.mark.parametrize("key", ["text", "image"])
def test_filters_narrow_what_is_found_and_still_k_hits_come(uri: str, key: str) -> None:
    filters = ["width >= 60", "caption contains drawing"]
    [found] = run(uri, {"query": HERON, "k": 12, "key": key, "filters": filters})
    hits = open_database(uri).search("a heron", 251, key)
    width = dict(zip([hit.pair_id for hit in hits], [hit.pair_id % 100 for hit in hits], strict=True))
    passing = [hit for hit in hits if width[hit.pair_id] >= 60 and "drawing" in (hit.caption or "")]
    assert told(found["results"][0]["hits"]) == wanted(passing[:12])


def test_duplicates_are_folded_into_the_better_hit(tmp_path: Path) -> None:
    uri = str(tmp_path / "database")
    write_searchable(uri, [many(40), many(40)])  # the images of both parts differ, the captions are the same
    [plain, folded, all_one] = run(
        uri,
        {"query": HERON, "k": 8},
        {"query": HERON, "k": 8, "dedup": 0.999},
        {"query": HERON, "k": 8, "dedup": 0.1},
    )
    assert folded["results"] == plain["results"]
    hits = all_one["results"][0]["hits"]
    repeats = [pair for hit in hits for pair in hit["folded"]]
    kept = [hit["pair_id"] for hit in hits]
    assert repeats and len(kept) == 8 and len({*kept, *repeats}) == len(kept) + len(repeats)


def test_a_deleted_pair_is_found_no_more_and_an_added_one_is(uri: str) -> None:
    async def steps() -> None:
        async with served(serving_recipe(uri, serve={"reload_s": 3600.0})) as client:
            before = await client.ids(HERON, key="text")
            delete_pairs(uri, np.array(before[:2]))
            assert await client.service.look() and not await client.service.look()
            assert await client.ids(HERON, key="text", k=18) == [*before[2:]]
            status, said = await client.get(f"/v1/pairs/{before[0]}")
            assert status == 404 and "was deleted" in said["error"]["message"]
            write_index(uri, num_shards=1, first=2)
            assert await client.service.look()
            assert await client.ids(HERON, key="text", k=18) == [*before[2:]]

    asyncio.run(steps())


def test_a_database_follows_its_deletions_by_itself(uri: str) -> None:
    async def until_gone(client: Client, pair: int) -> None:
        while pair in await client.ids(HERON, key="text"):
            await asyncio.sleep(0)

    async def steps() -> None:
        async with served(serving_recipe(uri, serve={"reload_s": 0.05})) as client:
            [first] = await client.ids(HERON, key="text", k=1)
            delete_pairs(uri, np.array([first]))
            await asyncio.wait_for(until_gone(client, first), PATIENCE_S)

    asyncio.run(steps())


def test_a_database_that_cannot_be_read_for_a_while_is_served_as_it_was(uri: str) -> None:
    manifest = Path(uri, "embeddings", "manifest.json")
    kept = manifest.read_bytes()

    async def until(client: Client, is_gone: bool) -> None:
        while (await client.get("/readyz"))[1]["problem"] is None if is_gone else client.service.problem:
            await asyncio.sleep(0)

    async def steps() -> None:
        async with served(serving_recipe(uri, serve={"reload_s": 0.02})) as client:
            before = await client.ids(HERON, key="text")
            manifest.unlink()
            await asyncio.wait_for(until(client, True), PATIENCE_S)
            assert await client.ids(HERON, key="text") == before
            delete_pairs(uri, np.array(before[:1]))
            manifest.write_bytes(kept)
            await asyncio.wait_for(until(client, False), PATIENCE_S)
            assert before[0] not in await client.ids(HERON, key="text")

    asyncio.run(steps())
