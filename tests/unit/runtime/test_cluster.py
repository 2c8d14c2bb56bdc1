"""A Ray that cannot be joined is one line, soon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import closed_port

JOIN = """
import sys
from react_ray.errors import ClusterError
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import connected
try:
    with connected(ClusterConfig(address=sys.argv[1])):
        pass
except ClusterError as error:
    print(error)
print("stderr is there", file=sys.stderr)
"""


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_is_not_there(address: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with closed_port() as port:
        address = address.format(port)
        ended = subprocess.run([sys.executable, "-c", JOIN, address], capture_output=True, text=True, env=env)
    assert ended.stdout.startswith(f"cannot join Ray at {address} (Connection"), ended
    assert ended.stdout.count("\n") == 1 and "check cluster.address or RAY_ADDRESS" in ended.stdout
    assert ended.stderr == "stderr is there\n"


POLICY = """
import os
import ray
from ray.cluster_utils import Cluster
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import connected

head = {"num_cpus": 1, "object_store_memory": 150 << 20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
with connected(ClusterConfig(address=cluster.address)):
    print(ray.get(ray.remote(os.getenv).remote("OMP_WAIT_POLICY")))
cluster.shutdown()
"""


@pytest.mark.parametrize("of_job", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_workers_of_a_cluster_wait_without_spinning_unless_the_job_says_otherwise(of_job: dict[str, str]) -> None:
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= of_job | {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": of_job}})}
    ended = subprocess.run([sys.executable, "-c", POLICY], capture_output=True, text=True, env=env)
    assert ended.stdout == of_job.get("OMP_WAIT_POLICY", "PASSIVE") + "\n", ended.stderr


LIGHT = """
import sys
import pyarrow as pa
import ray
from react_ray.draft import create
from react_ray.errors import ArtifactMismatch
from react_ray.kinds import Kind, NoFacts
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import on_demand
from react_ray.runtime.map_parts import MapStage, Work, map_parts

class Commit(Work):
    def __call__(self, part, table):
        if part == 3:
            raise ArtifactMismatch("part 3 is not wanted; name another")
        return draft.commit(part, table, 1.0)

draft = create(sys.argv[1], Kind("rows", NoFacts, ""), {}, {}, 4)
stage = MapStage("light", lambda part: pa.table({"row": [part]}), Commit(), light=True)
with on_demand(ClusterConfig(num_cpus=1)):
    try:
        map_parts(stage, draft.pending(), 4)
    except ArtifactMismatch as error:
        print(error, draft.pending(), ray.is_initialized())
"""


def test_light_work_is_done_without_ray_and_its_errors_are_themselves(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", LIGHT, str(tmp_path / "rows")], capture_output=True, text=True)
    assert ended.stdout == "part 3 is not wanted; name another [3] False\n", ended.stderr


IDLE = """
import ray
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import is_running, nodes, on_demand
with on_demand(ClusterConfig(num_cpus=1, object_store_gb=0.1)):
    assert not is_running() and not ray.is_initialized()
assert is_running(), "a program that calls the stages itself has its own Ray"
"""


def test_ray_does_not_start_before_it_is_needed() -> None:
    ended = subprocess.run([sys.executable, "-c", IDLE], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


QUIET = """
import logging
import ray.data
from react_ray.runtime.cluster import quiet
quiet()
try:
    raise ValueError("a raylet was lost")
except ValueError as error:
    logging.getLogger("ray.data").error("the pipeline ended", exc_info=error)
"""


def test_ray_data_prints_no_traceback_of_an_error_that_it_also_raises() -> None:
    ended = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


# A raylet that is stopped is one that a busy machine does not let run. Only the first one is.
SLOW = """
import os, signal, threading
import psutil
import ray
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import connected

def raylets():
    return [one for one in psutil.Process().children(recursive=True) if one.name() == "raylet"]

def stop_the_first():
    while not (found := raylets()):
        pass
    stopped.append(found[0])
    found[0].suspend()

stopped = []
threading.Thread(target=stop_the_first, daemon=True).start()
with connected(ClusterConfig(num_cpus=1, object_store_gb=0.1)):
    assert len(ray.nodes()) == 1 and raylets() != stopped and not stopped[0].is_running()
"""


@pytest.mark.slow  # Ray waits for 30 s
def test_a_ray_that_is_slow_to_start_is_started_again() -> None:
    ended = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "starting Ray" in ended.stderr and "Ray is slow to start; trying again" in ended.stderr
