"""Whatever is killed in the middle of a retrieval of many classes, its hits are those of an undisturbed one."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.draft import create
from react_ray.errors import ShardUnavailable
from react_ray.index.class_hits import ClassHits
from react_ray.index.config import Key
from react_ray.kinds import EMBEDDINGS, INDEX, PAIRS, QUERIES, NoFacts, QueriesFacts
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import on_demand
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.search import Ask, search
from react_ray.stages.retrieval.searchers import Searchers, SearchPlan
from tests.support.searchable import write_index
from tests.support.three_nodes import cluster_of
from tests.support.vector_database import BACKBONE, clustered, recipe_over, write_database

pytestmark = pytest.mark.slow

DIM, CLASSES, PROMPTS = 16, 1000, 2
KEYS: list[Key] = ["image", "text"]
MOST, NUM_BLOCKS = 5, 40
BLOCK_HITS = CLASSES // NUM_BLOCKS * PROMPTS * len(KEYS) * MOST


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database, its index of four shards, and queries."""
    place = tmp_path_factory.mktemp("kills")
    write_database(f"{place}/database", 4, 300, DIM)
    write_index(f"{place}/database", num_shards=4)
    class_Q = np.repeat(np.arange(CLASSES), PROMPTS)
    vectors_QD = clustered(len(class_Q), DIM, 99, noise=0.9, shift=0.2)
    columns = {
        "query_id": np.arange(len(class_Q)),
        "class_id": class_Q,
        "task": ["made"] * len(class_Q),
        "class_name": [f"class {number}" for number in class_Q.tolist()],
        "prompt": [f"prompt {number}" for number in range(len(class_Q))],
        "modality": ["text"] * len(class_Q),
        "embedding": pa.array([vector.tobytes() for vector in vectors_QD], schema.vector(DIM)),
    }
    queries = create(f"{place}/queries", QUERIES, {}, {}, 1)
    queries.commit(0, schema.conform(pa.table(columns), schema.queries(DIM)), 0.0)
    queries.seal(QueriesFacts(BACKBONE, DIM, CLASSES))
    return place


def plan_of(folder: Path) -> SearchPlan:
    uri, cluster = folder / "database", ClusterConfig(num_searchers=2, threads_per_actor=1)
    opened = [open_artifact(f"{uri}/{kind.name}", kind) for kind in (PAIRS, EMBEDDINGS)]
    database = Database(*opened, None, np.empty(0, np.int64))  # type: ignore[arg-type]
    index = open_artifact(f"{uri}/index", INDEX)
    return SearchPlan(database, index, recipe_over(str(uri), folder).index, cluster, hits_at_once=BLOCK_HITS)


def hits_of(folder: Path, out: str, searchers: Searchers) -> Artifact[NoFacts]:
    ask = Ask(f"{folder}/{out}", open_artifact(f"{folder}/queries", QUERIES), MOST, by_class=True)
    with searchers:
        return search(ask, KEYS, searchers)


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> str:
    with on_demand(ClusterConfig()):
        found = hits_of(folder, "undisturbed", Searchers(plan_of(folder)))
    assert found.num_parts == NUM_BLOCKS
    return found.content


class KillsDriver(Searchers):
    """The process that asks is killed at this question."""

    def __init__(self, plan: SearchPlan, last_call: int) -> None:
        super().__init__(plan)
        self.calls, self.last_call = itertools.count(), last_call

    def search_classes(self, *asked: Any) -> ClassHits:
        if next(self.calls) == self.last_call:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().search_classes(*asked)


def drive(folder: str, last_call: int) -> None:
    with on_demand(ClusterConfig()):
        hits_of(Path(folder), "driver", KillsDriver(plan_of(Path(folder)), last_call))


def test_a_driver_that_is_killed_goes_on_where_it_was(folder: Path, undisturbed: str) -> None:
    parts = []
    for last_call in (30, 24):
        script = f"from tests.cluster.test_retrieval_kills import drive; drive({str(folder)!r}, {last_call})"
        ended = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
        parts.append({path: path.stat().st_mtime_ns for path in (folder / "driver").glob("part-*.json")})
    assert 0 < len(parts[0]) < len(parts[1]) < NUM_BLOCKS
    assert {path: parts[1][path] for path in parts[0]} == parts[0], "finished classes are not searched again"
    with on_demand(ClusterConfig()):
        assert hits_of(folder, "driver", Searchers(plan_of(folder))).content == undisturbed


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[None]:
    with cluster_of("any", "any", cpus=2):
        yield


def searching_processes() -> list[psutil.Process]:
    """The searchers of this test's own cluster."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith("ray::ShardServer"):
                found.append(process)
    return found


def killed(processes: list[psutil.Process]) -> int:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return len(processes)


class LosesSearchers(Searchers):
    """One of them is killed at every 20th question."""

    def __init__(self, plan: SearchPlan) -> None:
        super().__init__(plan)
        self.calls, self.deaths = itertools.count(), 0

    def search_classes(self, *asked: Any) -> ClassHits:
        if next(self.calls) % 20 == 10:
            self.deaths += killed(searching_processes()[:1])
        return super().search_classes(*asked)


def test_searchers_that_are_killed_change_nothing(folder: Path, undisturbed: str, two_nodes: None) -> None:
    searchers = LosesSearchers(plan_of(folder))
    assert hits_of(folder, "searchers", searchers).content == undisturbed
    assert searchers.deaths >= 3


class LosesAllSearchers(Searchers):
    """All of them are killed as soon as they live, from the first question on."""

    def __enter__(self) -> Searchers:
        self.ended = threading.Event()
        self.killer = threading.Thread(target=self._kill)
        return super().__enter__()

    def _kill(self) -> None:
        while not self.ended.wait(0.05):
            killed(searching_processes())

    def open(self, keys: Iterable[str]) -> None:
        super().open(keys)
        self.killer.start()

    def __exit__(self, *raised: Any) -> None:
        self.ended.set()
        self.killer.join()
        super().__exit__(*raised)


def test_searchers_that_die_at_every_try_stop_the_search_in_one_line_that_names_the_classes(
    folder: Path, two_nodes: None
) -> None:
    with pytest.raises(ShardUnavailable) as raised:
        hits_of(folder, "never", LosesAllSearchers(plan_of(folder)))
    said = str(raised.value)
    assert said.startswith("the classes 'class 0' to 'class 24' were searched when a shard did not answer"), said
    assert "\n" not in said and said.endswith("run the same command again")
    assert not list((folder / "never").glob("part-*"))
