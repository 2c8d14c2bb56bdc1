"""A Ray cluster of several nodes, each in its own processes on this machine, which one test may kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.cluster_utils import Cluster

from react_ray.runtime.cluster import quiet
from react_ray.runtime.placement import ROLE_LABEL


@contextmanager
def cluster_of(*roles: str, cpus: int = 1) -> Iterator[Cluster]:
    """A head without CPUs, then one node per role; this process is connected to it meanwhile."""
    assert not ray.is_initialized()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 150 << 20, "include_dashboard": False},
    )
    try:
        for role in roles:
            cluster.add_node(num_cpus=cpus, object_store_memory=150 << 20, labels={ROLE_LABEL: role})
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        quiet()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
