"""Fixtures of the unit tests: an empty place, on disk and on S3, and a web that misbehaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import ray

from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import on_demand
from react_ray.storage import Storage, open_storage
from tests.support.s3_server import s3_server
from tests.support.web import Web, web_server

BUCKET = "bucket"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """URI of a bucket of a real S3 API on this machine."""
    with s3_server():
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"


@pytest.fixture
def without_ray() -> Iterator[None]:
    """Stages that need no Ray for what they are given go without, as in a command."""
    with on_demand(ClusterConfig(num_cpus=2, object_store_gb=0.1)):
        yield
        assert not ray.is_initialized(), "this work is small, and started Ray"


@pytest.fixture
def disk_place(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "place"))


@pytest.fixture
def s3_place(s3: str, tmp_path: Path) -> Storage:
    return open_storage(f"{s3}/{tmp_path.name}/place")


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest) -> Storage:
    """An empty storage; each test runs on both kinds."""
    storage = request.getfixturevalue(f"{request.param}_place")
    assert isinstance(storage, Storage)
    return storage


@pytest.fixture(scope="session")
def web() -> Iterator[Web]:
    with web_server() as server:
        yield server
