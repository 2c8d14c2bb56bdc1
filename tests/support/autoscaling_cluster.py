"""A Ray cluster whose autoscaler starts and ends nodes as they are needed: processes of this machine, by Ray's own fake
provider. Ray's AutoscalingCluster would run `ray stop`, which ends every Ray of the machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private.test_utils import wait_for_condition

from react_ray.runtime.cluster import quiet
from react_ray.runtime.placement import ROLE_LABEL
from tests.support.ports import free_port

HEAD = "ray.head.default"
# As an external one: of its own type, Ray looks for defaults in a file that its wheel lacks.
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # as the provider names the node that it is on
STEPS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
IDLE_MINUTES = 0.5  # longer than a replica takes to start on a node that came for it


@contextmanager
def autoscaling_cluster(folder: Path, most: dict[str, int]) -> Iterator[None]:
    """most: role -> its largest number of nodes of one CPU; there are none in the beginning. This process is connected
    to the cluster meanwhile, and so is what it starts."""
    assert not ray.is_initialized()
    port = free_port()
    types: dict[str, Any] = {
        role: {
            "resources": {"CPU": 1, "object_store_memory": 150 << 20},
            "labels": {ROLE_LABEL: role},
            "node_config": {},
            "min_workers": 0,
            "max_workers": number,
        }
        for role, number in most.items()
    }
    types[HEAD] = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    provider: dict[str, Any] = {
        "type": "external",
        "module": PROVIDER,
        "head_node_id": HEAD_ID,
        "launch_multiple": True,
    }
    provider["gcs_address"] = f"{ray._private.services.get_node_ip_address()}:{port}"
    config = {
        "cluster_name": "fake",
        "max_workers": sum(most.values()),
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": provider,
        "available_node_types": types,
        "head_node_type": HEAD,
        "upscaling_speed": 1.0,
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
        **{section: {} for section in ("auth", "docker", "file_mounts")},
        **{f"{step}_commands": [] for step in STEPS},
    }
    (folder / "autoscaler.yaml").write_text(json.dumps(config))
    command = ["ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]
    command += [f"--autoscaling-config={folder / 'autoscaler.yaml'}", f"--object-store-memory={150 << 20}"]
    command += ["--min-worker-port=0", "--max-worker-port=0"]
    env = os.environ | {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_AUTH_MODE": "disabled",  # as in this process, which has imported Ray already
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }
    with open(folder / "ray.log", "w") as log:
        head = psutil.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for_condition(lambda: _listens(port), timeout=60)
        ray.init(address=f"{provider['gcs_address']}", log_to_driver=False, logging_level="ERROR")
        quiet()
        yield
    finally:
        ray.shutdown()
        for process in [*head.children(recursive=True), head]:
            if process.is_running():
                process.kill()
        head.wait(30)


def nodes_of(role: str) -> int:
    return sum(node["Alive"] and node["Labels"].get(ROLE_LABEL) == role for node in ray.nodes())


def _listens(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex((ray._private.services.get_node_ip_address(), port)) == 0
