"""A head and three nodes: work goes to the nodes of its role, and neither more nodes nor lost ones change a result."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
import ray._private.state
from ray import cluster_utils
from ray._private.node import Node

from react_ray.artifact import open_artifact
from react_ray.draft import Draft, create
from react_ray.kinds import EMBEDDINGS, HITS, QUERIES, Kind, NoFacts
from react_ray.manifest import Receipt
from react_ray.recipe import ClusterConfig, load_recipe
from react_ray.runtime.map_parts import MapStage, Work, map_parts
from react_ray.runtime.placement import ROLE_LABEL, actor_pool, placement, thread_pool
from react_ray.stages import embed, index, ingest, retrieve
from react_ray.vectors import from_vectors
from tests.support.small_run import contents, small_recipe
from tests.support.three_nodes import cluster_of


class SayWhere(Work):
    """Commits the role of the node that it runs on."""

    def __init__(self, artifact: Draft[NoFacts]) -> None:
        self.artifact = artifact

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        role = ray.get_runtime_context().get_node_labels()[ROLE_LABEL]
        return self.artifact.commit_files(part, {}, 0.0, rows=1, role=role)


def one_row(part: int) -> pa.Table:
    return pa.table({"row": [part]})


@pytest.mark.slow
def test_work_goes_to_the_nodes_of_its_role(tmp_path: Path) -> None:
    config = ClusterConfig(roles=True, num_actors=1, threads_per_actor=1)
    with cluster_of("fetch", "embed", "index"):
        for number, (role, options) in enumerate(
            [
                ("fetch", placement(config, "fetch")),
                ("fetch", thread_pool(config, "fetch", 1, 2)),
                ("embed", actor_pool(config, "embed")),
                ("index", placement(config, "index")),
            ]
        ):
            made = create(str(tmp_path / str(number)), Kind("where", NoFacts, ""), {}, {}, 4)
            map_parts(MapStage("where", one_row, SayWhere(made), options=options), made.pending(), 4)
            assert {str(receipt.facts["role"]) for receipt in made.receipts()} <= {role, f"['{role}']"}
            assert made.seal().rows == 4


@pytest.mark.slow
def test_a_node_killed_while_embedding_changes_no_artifact_and_the_search_over_the_others_equals_one_flat_scan(
    finished: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(small_recipe(tmp_path), ["cluster.num_actors=2"])
    done = tmp_path / "database/embeddings"
    with cluster_of("any", "any", "any") as cluster:
        ingest.run(recipe)
        ended = threading.Event()
        killer = threading.Thread(target=_kill_the_embedding_node, args=(cluster, done, ended))
        killer.start()
        try:
            embed.run(recipe)
        finally:
            ended.set()
            killer.join()
        assert len([node for node in ray.nodes() if node["Alive"]]) == 3, "no node was killed"
        index.run(recipe)
        retrieve.run(recipe, "gated_image")
    there = contents(str(finished / "database"), str(finished / "run"))
    here = contents(str(tmp_path / "database"), str(tmp_path / "run"))
    assert here == {place: there[place] for place in here} and "run/retrieved" in here
    _assert_hits_equal_a_flat_scan(tmp_path / "database", tmp_path / "run")


def _kill_the_embedding_node(cluster: cluster_utils.Cluster, done: Path, ended: threading.Event) -> None:
    """As kill -9 of a machine, once an actor has committed its first part and is at work on another."""
    while not ended.wait(0.01):
        if any(done.glob("part-*.json")):
            cluster.remove_node(_busy(cluster), allow_graceful=False)
            return


def _busy(cluster: cluster_utils.Cluster) -> Node:
    """A node that holds an embedding actor."""
    nodes = {node.node_id: node for node in cluster.worker_nodes}
    for actor in ray._private.state.actors().values():
        if actor["State"] == "ALIVE" and "MapWorker" in actor["ActorClassName"] and actor["Address"]["NodeID"] in nodes:
            return nodes[actor["Address"]["NodeID"]]
    raise AssertionError("a part is committed, but no actor is alive")


def _assert_hits_equal_a_flat_scan(database: Path, run: Path) -> None:
    """Two shards were searched by actors on several nodes; one NumPy scan of all vectors gives the expected hits."""
    table = pa.concat_tables(open_artifact(str(database / "embeddings"), EMBEDDINGS).tables())
    queries = pa.concat_tables(open_artifact(str(run / "queries"), QUERIES).tables())
    hits = pa.concat_tables(open_artifact(str(run / "hits"), HITS).tables())
    pair_ids = table["pair_id"].to_numpy()
    asked = from_vectors(queries["embedding"]).astype(np.float64)
    for key in ("image", "text"):
        vectors = from_vectors(table[key]).astype(np.float64)
        finite = np.isfinite(vectors).all(axis=1)
        scores = (asked @ vectors[finite].T).astype(np.float32)
        order = np.lexsort((np.broadcast_to(pair_ids[finite], scores.shape), -scores), axis=1)[:, :8]
        mine = hits.filter(pa.compute.equal(hits["key"], key)).sort_by(
            [("query_id", "ascending"), ("rank", "ascending")]
        )
        assert np.array_equal(mine["pair_id"].to_numpy().reshape(-1, 8), pair_ids[finite][order])
        assert np.array_equal(mine["score"].to_numpy().reshape(-1, 8), np.take_along_axis(scores, order, axis=1))
