"""A training that loses a node, suddenly or with a notice, goes on with the nodes left and gives the same model."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import ray._private.state
import torch
from ray import cluster_utils
from ray._private.node import Node
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from react_ray.artifact import Artifact
from react_ray.clip.weights import read_weights
from react_ray.recipe import load_recipe
from react_ray.stages import customize
from tests.support.three_nodes import cluster_of

NOTICE_S = 120  # as a cloud gives it before it takes a spot node back
Disturb = Callable[[cluster_utils.Cluster, Path, threading.Event], None]


@pytest.mark.slow
def test_a_training_goes_on_with_fewer_workers(finished: Path, tmp_path: Path) -> None:
    model = train_on_two_nodes(finished, tmp_path, _kill_a_training_node, checkpoint_every_steps=2)
    assert_as_finished(finished, model)


@pytest.mark.slow
def test_a_spot_node_that_is_about_to_go_leaves_a_checkpoint(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No other checkpoint is due, so that the training can only go on from the one that the notice asked for."""
    model = train_on_two_nodes(finished, tmp_path, _preempt_a_training_node, checkpoint_every_steps=1000)
    assert_as_finished(finished, model)
    [told] = [record.getMessage() for record in caplog.records if "about to be preempted" in record.getMessage()]
    [kept] = (tmp_path / "run/arms/gated_image/checkpoints").glob("step_*/checkpoint.json")
    assert told.startswith("train gated_image: the node of worker ")
    assert told.endswith(f"a checkpoint was taken at step {int(kept.parent.name.removeprefix('step_'))}")


def train_on_two_nodes(finished: Path, folder: Path, disturb: Disturb, checkpoint_every_steps: int) -> Artifact:
    """The arm gated_image of `finished`, trained again while `disturb` runs in a thread and takes one of the nodes."""
    for name in ("database", "run/queries", "run/retrieved", "run/images"):
        shutil.copytree(finished / name, folder / name)
    every = f"customize.checkpoint_every_steps: {checkpoint_every_steps}"
    arms = f"arms={{gated_image: {{customize.epochs: 3.2, customize.min_workers: 1, {every}}}}}"
    recipe = load_recipe(
        str(finished / "recipe.yaml"),
        [f"database={folder}/database", f"out={folder}/run", "cluster.part_retries=0", arms],
    )
    with cluster_of("any", "any") as cluster:
        ended = threading.Event()
        checkpoints = folder / "run/arms/gated_image/checkpoints"
        disturber = threading.Thread(target=disturb, args=(cluster, checkpoints, ended))
        disturber.start()
        try:
            [model] = customize.run(recipe)
        finally:
            ended.set()
            disturber.join()
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2, "no node was killed"
    return model


def assert_as_finished(finished: Path, model: Artifact) -> None:
    expected = read_weights(str(finished / "run/arms/gated_image/model/gated.safetensors"))
    found = read_weights(f"{model.uri}/gated.safetensors")
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4)


def _kill_a_training_node(cluster: cluster_utils.Cluster, checkpoints: Path, ended: threading.Event) -> None:
    """As kill -9 of a machine, once there is a checkpoint to go on from; the first worker's or not."""
    if _wait_for_a_checkpoint(checkpoints, ended):
        cluster.remove_node(_node_of_a_worker(cluster), allow_graceful=False)


def _preempt_a_training_node(cluster: cluster_utils.Cluster, checkpoints: Path, ended: threading.Event) -> None:
    """As a cloud takes a spot node back: a notice as soon as workers are there, the kill once there is a checkpoint."""
    node = None
    while node is None:
        if ended.wait(0.01):
            return
        node = _node_of_a_worker(cluster)
    deadline_ms = int(1000 * (time.time() + NOTICE_S))
    preemption = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why_not = GcsClient(address=cluster.address).drain_node(node.node_id, preemption, "", deadline_ms)
    assert accepted, why_not
    if _wait_for_a_checkpoint(checkpoints, ended):
        cluster.remove_node(node, allow_graceful=False)


def _wait_for_a_checkpoint(checkpoints: Path, ended: threading.Event) -> bool:
    """False if the training ended before."""
    while not any(checkpoints.glob("step_*/checkpoint.json")):
        if ended.wait(0.01):
            return False
    return True


def _node_of_a_worker(cluster: cluster_utils.Cluster) -> Node | None:
    """Of one of the training workers; None while there are none."""
    nodes = {node.node_id: node for node in cluster.worker_nodes}
    for actor in ray._private.state.actors().values():
        if actor["State"] == "ALIVE" and "RayTrainWorker" in actor["ActorClassName"]:
            return nodes[actor["Address"]["NodeID"]]
    return None
