"""Searchers come and are lost in the middle of a search, and it finds what one process finds."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray

from react_ray.index.search_shards import Round
from react_ray.runtime.placement import ROLE_LABEL
from react_ray.stages.retrieval.fan_out import Pool
from react_ray.stages.retrieval.shares import Shares
from tests.support.autoscaling_cluster import autoscaling_cluster, nodes_of
from tests.support.searching import Searching, fan_out, until, write_five_shards
from tests.support.three_nodes import cluster_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = f"{tmp_path_factory.mktemp('moving')}/database"
    write_five_shards(uri)
    return uri


def test_hits_are_the_same_while_one_searcher_becomes_three_and_three_become_one(database: str) -> None:
    with cluster_of("any") as nodes, fan_out(database) as shards:
        searching = Searching(database, shards)
        searching.once()
        assert len(searching.searchers) == 1
        with searching.running():
            more = [nodes.add_node(num_cpus=1, object_store_memory=150 << 20) for _ in range(2)]
            until(lambda: len(searching.searchers) == 3)
            before = searching.searches + 1
            until(lambda: searching.searches > before)
            for node in more:
                nodes.remove_node(node, allow_graceful=False)
            until(lambda: len(searching.searchers) == 1)
        searching.once()


class LosesOne:
    """A pool of which a searcher is killed at every fifth round of questions, as soon as it is asked."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.rounds, self.killed = pool, 0, 0
        self.shares, self.answers, self.close = pool.shares, pool.answers, pool.close

    def send(self, shares: Shares[Any], key: str, asked: Round) -> list[Any]:
        sent = self.pool.send(shares, key, asked)
        self.rounds += 1
        if self.rounds % 5 == 1:
            ray.kill(shares[self.rounds % len(shares)][0])
            self.killed += 1
        return sent


def test_hits_are_the_same_if_searchers_are_lost_again_and_again(database: str) -> None:
    with cluster_of("any", "any", cpus=2), fan_out(database) as shards:
        searching = Searching(database, shards)
        shards._pool = losing = LosesOne(shards._pool)
        while losing.killed < 5:
            searching.once()


def test_searchers_that_wait_bring_nodes_of_their_role_which_go_when_the_search_has_ended(
    database: str, tmp_path: Path
) -> None:
    """In a process of its own: Ray ends actors without a node if their driver had actors in an earlier cluster."""
    script = f"from tests.cluster.test_searchers_move import scale; scale({database!r}, {str(tmp_path)!r})"
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    print(ended.stdout)
    assert ended.returncode == 0


def scale(database: str, folder: str) -> None:
    seen, began = [(0, 0, 0)], time.monotonic()

    def see(searchers: int) -> tuple[int, int]:
        seen.append((round(time.monotonic() - began), searchers, nodes_of("index")))
        return seen[-1][1:]

    with autoscaling_cluster(Path(folder), {"index": 3, "embed": 1}):
        assert see(0) == (0, 0)
        with fan_out(database, roles=True) as shards:
            searching = Searching(database, shards)
            searching.once()
            with searching.running():
                until(lambda: see(len(searching.searchers)) == (3, 3))
            nodes = {node["NodeID"] for node in ray.nodes() if node["Labels"].get(ROLE_LABEL) == "index"}
            assert set(ray.get([one.__ray_call__.remote(_node) for one in searching.searchers])) == nodes
        until(lambda: see(0) == (0, 0))
    changes = [one for last, one in pairwise(seen) if one[1:] != last[1:]]
    print("seconds, searchers, nodes of the role index:", changes)


def _node(_: Any) -> str:
    return str(ray.get_runtime_context().get_node_id())
