"""A group that does not answer is named, or the answer says what share of the vectors was compared."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from react_ray.artifact import open_artifact
from react_ray.index.config import FLAT, IVF_RABITQ
from react_ray.index.search_shards import FEW
from react_ray.kinds import INDEX
from react_ray.serving.cutting import cut
from react_ray.serving.groups import Asked, ShardGroup
from react_ray.serving.local_group import LocalGroup
from react_ray.serving.refusal import GroupUnavailable
from react_ray.serving.service import Service
from react_ray.serving.stamp import Stamp
from tests.support.searchable import many, write_index, write_searchable
from tests.support.serving import served, serving_recipe

LATER = many(100, 300)  # captions of the second part


class Down:
    """A group whose processes are gone."""

    def __init__(self, name: str, answers: int = 0, of: LocalGroup | None = None) -> None:
        """answers: how many questions it still answers, as `of` does."""
        self.name, self.answers, self.of = name, answers, of

    async def answer(self, asked: Asked) -> Any:
        if self.answers and self.of is not None:
            self.answers -= 1
            return await self.of.answer(asked)
        raise GroupUnavailable(self.name, "its processes died")

    async def prepare(self, stamp: Stamp) -> None:
        pass

    async def replicas(self) -> int | None:
        return 0


@pytest.mark.parametrize(("kind", "answers"), [(FLAT, 0), (IVF_RABITQ, 0), (IVF_RABITQ, 1)])
def test_a_lost_group_is_named_or_counted(tmp_path: Path, kind: str, answers: int) -> None:
    uri = str(tmp_path / "database")
    write_searchable(uri, [many(100), many(100, 300)])
    write_index(uri, num_shards=2, kind=kind)
    recipe = serving_recipe(uri, index={"k_factor": 4.0, "nprobe": 4})
    text = {"text": "a heron"}
    # Few queries take one round, so a group can be lost between two rounds only where there are more of them.
    body = {"k": 5, "key": "text"} | ({"queries": [text] * (FEW + 1)} if answers else {"query": text})

    async def all_of() -> list[Any]:
        service = Service(recipe)
        groups = [LocalGroup(ShardGroup(uri, number, 4), service.threads) for number in range(4)]
        [mine] = [number for number in range(4) if holds(uri, number, 4) == [("text", 1)]]
        service.groups = [Down(group.name, answers, group) if n == mine else group for n, group in enumerate(groups)]
        async with served(recipe, service=service) as client:
            answered = await client.http.post("/v1/search", json=body)
            assert answered.headers["retry-after"] == "2"
            found = [(answered.status_code, answered.json()), await client.post("/v1/search", body)]
            return [*found, await client.post("/v1/search", body | {"allow_partial": True}), mine]

    first, again, partial, mine = asyncio.run(all_of())
    assert first[0] == again[0] == 503 and f"group-{mine} does not answer" in again[1]["error"]["message"]
    assert again[1]["error"]["code"] == "group_unavailable"
    assert partial[0] == 200 and partial[1]["coverage"] == 0.5
    assert {hit["pair_id"] >> 20 for hit in partial[1]["results"][0]["hits"]} == {0}


@pytest.mark.parametrize("filters", [[], ["width < 50"]])
def test_a_group_that_is_lost_between_rounds_leaves_the_hits_of_the_others(tmp_path: Path, filters: list[str]) -> None:
    uri = str(tmp_path / "database")
    write_searchable(uri, [many(100), LATER])
    write_index(uri, num_shards=2, kind=IVF_RABITQ)
    body = {"queries": [{"text": LATER[50]}] * (FEW + 1), "k": 10, "key": "text", "filters": filters}

    async def partial(answers: int) -> Any:
        service = Service(serving_recipe(uri, index={"k_factor": 1.0, "nprobe": 1}))
        first, last = (LocalGroup(ShardGroup(uri, number, 2), service.threads) for number in range(2))
        service.groups = [first, Down(last.name, answers, last)]
        async with served(service.recipe, service=service) as client:
            return await client.post("/v1/search", body | {"allow_partial": True})

    (status, lost_before), (_, lost_between) = (asyncio.run(partial(answers)) for answers in (0, 1))
    assert status == 200 and lost_before["coverage"] == lost_between["coverage"] < 1
    assert lost_between["results"] == lost_before["results"] and len(lost_before["results"][0]["hits"]) == 10


def holds(uri: str, number: int, count: int) -> list[tuple[str, int]]:
    """(key, shard) of what a group holds."""
    share = cut(open_artifact(f"{uri}/index", INDEX), count)[number]
    return [(place.key, place.shard) for some in share.values() for place in some]
