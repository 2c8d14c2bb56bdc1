"""Fixtures for all tests: one local Ray per file where it is asked for, recipes over small data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.small_run import react_ray, small_recipe

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it: two tests share two cores
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
for name in ("NO_PROXY", "no_proxy"):  # the servers of tests are on this machine
    here = ["localhost", *(f"127.0.0.{number}" for number in range(1, 9))]
    os.environ[name] = ",".join([*here, *filter(None, [os.environ.get(name)])])
# Each process that a test starts would compile the package again (0.5 s), and Ray would start a process for each part
# (3 s) before the first of them can take several parts.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "1")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray of this process alone, which stages find already initialised and leave. It ends with its file: which file
    follows in the same process depends on time, and some test what goes without Ray."""
    import ray

    from react_ray.recipe import ClusterConfig
    from react_ray.runtime.cluster import connected

    with connected(ClusterConfig(num_cpus=2, object_store_gb=0.3)):
        yield
    assert not ray.is_initialized()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run, against which the others are compared. Processes that test side by side share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{folder}.lock"):
        if not (folder / "stderr").exists():
            folder.mkdir(exist_ok=True)
            done = react_ray("run", small_recipe(folder))
            assert done.returncode == 0, done.stderr[-3000:]
            (folder / "stdout").write_text(done.stdout)
            (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.fixture(scope="session")
def sample_dir() -> Path:
    import react_ray

    return Path(react_ray.__file__).parent / "sample"
