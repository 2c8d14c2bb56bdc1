"""A training that loses a node goes on with those that are left, and gives the same model."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
import ray
import ray._private.state
import torch
from ray import cluster_utils

from react_ray.clip.weights import read_weights
from react_ray.recipe import load_recipe
from react_ray.stages import customize
from tests.support.three_nodes import cluster_of


@pytest.mark.slow
def test_a_training_goes_on_with_fewer_workers(finished: Path, tmp_path: Path) -> None:
    for name in ("database", "run/queries", "run/retrieved", "run/images"):
        shutil.copytree(finished / name, tmp_path / name)
    arms = "arms={gated_image: {customize.epochs: 3.2, customize.min_workers: 1, customize.checkpoint_every_steps: 2}}"
    recipe = load_recipe(
        str(finished / "recipe.yaml"),
        [f"database={tmp_path}/database", f"out={tmp_path}/run", "cluster.part_retries=0", arms],
    )
    checkpoints = tmp_path / "run/arms/gated_image/checkpoints"
    with cluster_of("any", "any") as cluster:
        ended = threading.Event()
        killer = threading.Thread(target=_kill_a_training_node, args=(cluster, checkpoints, ended))
        killer.start()
        try:
            [model] = customize.run(recipe)
        finally:
            ended.set()
            killer.join()
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2, "no node was killed"
    expected = read_weights(str(finished / "run/arms/gated_image/model/gated.safetensors"))
    found = read_weights(f"{model.uri}/gated.safetensors")
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4)


def _kill_a_training_node(cluster: cluster_utils.Cluster, checkpoints: Path, ended: threading.Event) -> None:
    """As kill -9 of a machine, once there is a checkpoint to go on from; the first worker's or not."""
    while not ended.wait(0.01):
        if any(checkpoints.glob("step_*/checkpoint.json")):
            nodes = {node.node_id: node for node in cluster.worker_nodes}
            for actor in ray._private.state.actors().values():
                if actor["State"] == "ALIVE" and "RayTrainWorker" in actor["ActorClassName"]:
                    cluster.remove_node(nodes[actor["Address"]["NodeID"]], allow_graceful=False)
                    return
            raise AssertionError("a checkpoint is there, but no worker is alive")
