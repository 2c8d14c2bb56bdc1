"""Fan-out: what a batch comes to does not depend on who answers, nor on how often that changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from react_ray.artifact import open_artifact
from react_ray.errors import ShardUnavailable
from react_ray.index.search_shards import Round, search_shards
from react_ray.index.shards import open_shards, shard_places
from react_ray.kinds import INDEX
from react_ray.recipe import ClusterConfig
from react_ray.stages.retrieval.searcher_pool import SearcherLost
from react_ray.stages.retrieval.shard_actors import ShardFanOut, ShardServer
from react_ray.stages.retrieval.shares import Shares, spread
from tests.support.searching import ASKED, NOTHING, TWO_ROUNDS, write_five_shards

NUM_SHARDS = 5


class Moving:
    """Up to four servers in this process. Another number of them shares the shards after every third round, and an
    answer is lost after every `losing`-th."""

    def __init__(self, uri: str, losing: int) -> None:
        places = {"image": shard_places(open_artifact(f"{uri}/index", INDEX), "image")}
        self.servers = [ShardServer(places, NOTHING, 1, None, ClusterConfig()) for _ in range(4)]
        self.rounds, self.losing, self.seen = 0, losing, set[int]()
        self.current = spread({"image": NUM_SHARDS}, self.servers[:1], {})

    def shares(self, key: str) -> Shares[Any]:
        return self.current[key]

    def send(self, shares: Shares[Any], key: str, asked: Round) -> list[Any]:
        self.rounds += 1
        self.seen.add(len(shares))
        if self.rounds % 3 == 0:
            width = 1 + self.rounds // 3 % len(self.servers)
            self.current = spread({key: NUM_SHARDS}, self.servers[:width], self.current)
        return [
            server.answer(key, share, asked.method, asked.queries_QD, each)
            for (server, share), each in zip(shares, asked.each, strict=True)
        ]

    def answers(self, sent: list[Any]) -> list[Any]:
        if self.losing and self.rounds % self.losing == 0:
            self.rounds += 1
            raise SearcherLost("killed", is_news=True)
        return sent

    def close(self) -> None:
        """Nothing has to end."""


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = f"{tmp_path_factory.mktemp('fan_out')}/database"
    write_five_shards(place)
    return place


def fan_out(uri: str, losing: int) -> tuple[ShardFanOut, Moving]:
    shards = ShardFanOut(open_artifact(f"{uri}/index", INDEX), ["image"], ClusterConfig(), NOTHING, here=True)
    shards._pool = pool = Moving(uri, losing)
    return shards, pool


@pytest.mark.parametrize("losing", [0, 7])
def test_hits_are_those_of_one_process_although_shares_change_and_answers_are_lost(uri: str, losing: int) -> None:
    shards, pool = fan_out(uri, losing)
    places = shard_places(open_artifact(f"{uri}/index", INDEX), "image")
    want = search_shards(open_shards(places, NOTHING), ASKED, 10, TWO_ROUNDS)
    found = shards.search("image", ASKED, 10, TWO_ROUNDS)
    np.testing.assert_array_equal(found.pair_ids, want.pair_ids)
    np.testing.assert_array_equal(found.scores, want.scores)
    assert pool.seen >= {1, 2, 3}


def test_a_batch_that_loses_its_searchers_again_and_again_stops_in_one_line_that_says_what_to_do(uri: str) -> None:
    shards, _ = fan_out(uri, losing=1)
    with pytest.raises(ShardUnavailable, match=r"searchers died 4 times \(killed\); run the same command again$"):
        shards.search("image", ASKED[:10], 10, TWO_ROUNDS)


def test_a_server_has_one_share_of_a_key_open(uri: str) -> None:
    _, pool = fan_out(uri, losing=0)
    for share in ((0, 1), (1,), (1,)):
        pool.servers[0].prepare({"image": share})
        ((opened, shards),) = pool.servers[0]._opened.values()
        assert opened == share and sum(len(one.bounds) for one in shards) == len(share)
