"""Fixtures for all tests: a local Ray where it is asked for, a finished run. The order of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.small_run import react_ray, small_recipe

SHARING_RAY = pytest.StashKey[set[Path]]()  # files that use `local_ray`

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Orders files for two processes. The first makes `finished` while the second tests what does not need it; files
    that share a Ray follow one another; and short ones, which fill the end, come last."""
    fixtures: dict[Path, set[str]] = {}
    for item in items:
        fixtures.setdefault(item.path, set()).update(getattr(item, "fixturenames", ()))
    config.stash[SHARING_RAY] = {path for path, used in fixtures.items() if "local_ray" in used}

    def place(item: pytest.Item) -> int:
        used, sharing = fixtures[item.path], item.path in config.stash[SHARING_RAY]
        if "finished" in used:
            return 2 if sharing else 0
        return 1 if sharing else 4 if item.path.parent.name == "page" else 3

    items.sort(key=place)


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[ExitStack]:
    """Holds the Ray of this process, as long as the file that runs uses `local_ray`."""
    with ExitStack() as held:
        yield held


@pytest.fixture(scope="module", autouse=True)
def ray_of_others(request: pytest.FixtureRequest, shared_ray: ExitStack) -> None:
    """Ends the Ray that files before this one have shared, if this file does not share it: it may start one of its own,
    or test what goes without."""
    if request.path not in request.config.stash[SHARING_RAY]:
        shared_ray.close()


@pytest.fixture(scope="module")
def local_ray(shared_ray: ExitStack, ray_of_others: None) -> None:
    """A Ray of this process alone, which stages find already initialised and leave. The next file that asks for it gets
    the same: to start one takes 8 s of a core, and as much until its workers have imported what they need."""
    import ray

    from react_ray.recipe import ClusterConfig
    from react_ray.runtime.cluster import connected

    if not ray.is_initialized():
        shared_ray.enter_context(connected(ClusterConfig(num_cpus=2, object_store_gb=0.3)))


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
