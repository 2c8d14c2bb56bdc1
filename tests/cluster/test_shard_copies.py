"""Searchers of an index on S3 copy no shard to a node twice, nor one that they do not search."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import boto3
import pytest
from ray.cluster_utils import Cluster

from react_ray.artifact import Artifact, open_artifact
from react_ray.index.list_shard import FILES
from react_ray.index.shard_cache import SHARD
from react_ray.index.shards import shard_name
from react_ray.kinds import INDEX, IndexFacts
from react_ray.recipe import ClusterConfig
from react_ray.stages.retrieval.shard_actors import ShardFanOut
from react_ray.storage.s3 import S3Storage
from react_ray.storage.walk import WRITING
from tests.support.held_process import HeldProcess
from tests.support.s3_server import s3_server
from tests.support.searching import NOTHING, Searching, until, write_five_shards
from tests.support.three_nodes import cluster_of

pytestmark = pytest.mark.slow
SHARDS = range(5)


class WatchedS3(S3Storage):
    """Notes each file that is copied, and holds who reads one."""

    def __init__(self, uri: str, notes: Path, held: HeldProcess) -> None:
        super().__init__(uri)
        self.notes, self.held = notes, held

    def __reduce__(self) -> tuple[Any, ...]:
        return WatchedS3, (self.uri, self.notes, self.held)

    def stream(self, path: str) -> BinaryIO:
        with self.notes.open("a", encoding="utf-8") as notes:
            notes.write(f"{tempfile.gettempdir()} {path}\n")
        return cast(BinaryIO, _Held(super().stream(path), self.held))

    def copied(self) -> Counter[tuple[str, str]]:
        """How often (temporary directory of a process, file)."""
        lines = self.notes.read_text("utf-8").splitlines()
        return Counter((place, path) for place, path in map(str.split, lines))


class _Held(io.RawIOBase):
    def __init__(self, file: BinaryIO, held: HeldProcess) -> None:
        self.file, self.held = file, held

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        self.held.pass_or_stay()
        return self.file.read(size)


def watched(uri: str, folder: Path) -> tuple[Artifact[IndexFacts], WatchedS3]:
    index = open_artifact(f"{uri}/index", INDEX)
    storage = WatchedS3(index.uri, folder / "copied", HeldProcess(folder / "held"))
    storage.notes.touch()
    return Artifact(storage, index.kind, index.manifest), storage


def files_of(shards: range) -> set[str]:
    return {f"{shard_name('image', shard)}.{suffix}" for shard in shards for suffix in FILES}


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """URI on a real S3 API."""
    with s3_server():
        boto3.client("s3").create_bucket(Bucket="copies")
        write_five_shards("s3://copies/database")
        yield "s3://copies/database"


def node(cluster: Cluster, cache: Path) -> None:
    """Adds a node whose processes have this temporary directory, below which its copies lie."""
    cache.mkdir(exist_ok=True)
    cluster.add_node(num_cpus=1, object_store_memory=150 << 20, env_vars={"TMPDIR": str(cache)})


def copies(cache: Path) -> list[Path]:
    """The copies of a node, finished or not."""
    return [path for path in cache.glob("react_ray-shards-*/*") if path.name.startswith((SHARD, WRITING))]


def test_newcomers_copy_what_they_search_and_one_that_is_killed_while_it_copies_leaves_nothing(
    database: str, tmp_path: Path
) -> None:
    index, storage = watched(database, tmp_path)
    cluster = ClusterConfig(num_searchers=3, threads_per_actor=1)
    with cluster_of() as nodes:
        node(nodes, tmp_path / "first")
        with ShardFanOut(index, ["image"], cluster, NOTHING) as shards:
            searching = Searching(database, shards)
            searching.once()
            assert {path for _, path in storage.copied()} == files_of(SHARDS)
            storage.held.arm()
            with searching.running():
                for name in ("second", "third"):
                    node(nodes, tmp_path / name)
                storage.held.kill()
                until(lambda: len(searching.searchers) == 3)
            searching.once()
    found = {name: copies(tmp_path / name) for name in ("first", "second", "third")}
    assert not [path for some in found.values() for path in some if path.name.startswith(WRITING)]
    assert len(found["first"]) == len(files_of(SHARDS))
    assert all(0 < len(found[name]) < len(files_of(SHARDS)) for name in ("second", "third"))
    copied = storage.copied()
    assert copied.total() - len(copied) <= 1, "no file is copied to a node twice but the one that was interrupted"


def test_newcomers_copy_their_shards_while_the_first_searcher_still_copies(database: str, tmp_path: Path) -> None:
    index, storage = watched(database, tmp_path)
    cluster = ClusterConfig(num_searchers=3, threads_per_actor=1, shard_cache_dir=f"{tmp_path}/cache")
    storage.held.arm()
    with cluster_of("any", "any", "any"), ShardFanOut(index, ["image"], cluster, NOTHING) as shards:
        searching = Searching(database, shards)
        with searching.running():
            try:
                until(lambda: len(storage.copied()) > len(files_of(range(2))))  # the first has begun with one
            finally:
                storage.held.kill()


def test_processes_of_one_machine_copy_each_shard_once_for_all(database: str, tmp_path: Path) -> None:
    index, storage = watched(database, tmp_path)
    wide = ClusterConfig(num_searchers=3, min_searchers=2, threads_per_actor=1, shard_cache_dir=f"{tmp_path}/cache")
    with cluster_of("any", "any", "any"), ShardFanOut(index, ["image"], wide, NOTHING) as shards:
        searching = Searching(database, shards)
        with searching.running():
            until(lambda: len(searching.searchers) == 3)
        searching.once()
    copied = storage.copied()
    assert {path for _, path in copied} == files_of(SHARDS) and copied.total() == len(files_of(SHARDS))
