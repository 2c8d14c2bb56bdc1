"""A node's copies of shards: fetched and hashed once, shared by its processes, evicted when room is needed."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from react_ray.errors import ArtifactCorrupt, StorageError
from react_ray.index.shard_cache import SHARD, ShardCache
from react_ray.storage import Storage, open_storage


def stored(place: Storage, name: str, size: int = 1000) -> tuple[str, bytes]:
    data = hashlib.sha256(name.encode()).digest() * (size // 32 + 1)
    place.write(name, data[:size])
    return hashlib.sha256(data[:size]).hexdigest(), data[:size]


def copies(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith(SHARD))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ShardCache]:
    found = ShardCache(str(tmp_path / "cache"))
    yield found
    found.close()


def test_a_file_is_fetched_once_and_read_from_the_copy_ever_after(
    s3_place: Storage, tmp_path: Path, cache: ShardCache
) -> None:
    sha256, data = stored(s3_place, "image-00000.cold.faiss")
    path = cache.path(s3_place, "image-00000.cold.faiss", sha256)
    assert Path(path).read_bytes() == data and path.endswith(".faiss") and Path(path).parent == tmp_path / "cache"
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0
    s3_place.delete("image-00000.cold.faiss")
    another = ShardCache(str(tmp_path / "cache"))
    assert another.path(s3_place, "image-00000.cold.faiss", sha256) == path
    another.close()


def test_a_file_with_another_checksum_is_refused_and_leaves_nothing(
    place: Storage, tmp_path: Path, cache: ShardCache
) -> None:
    sha256, _ = stored(place, "a.faiss")
    place.write("a.faiss", b"damaged")
    for _ in range(2):
        with pytest.raises(ArtifactCorrupt, match=r"a\.faiss has a wrong checksum; delete the index"):
            cache.path(place, "a.faiss", sha256)
    assert copies(tmp_path / "cache") == []
    with pytest.raises(StorageError, match="nothing"):
        cache.path(place, "nothing.faiss", sha256)


def test_a_local_file_stays_where_it_is_and_is_hashed_again_only_once_it_was_written_again(
    disk_place: Storage, tmp_path: Path, cache: ShardCache, caplog: pytest.LogCaptureFixture
) -> None:
    sha256, data = stored(disk_place, "a.faiss")
    path = cache.path(disk_place, "a.faiss", sha256)
    assert path == disk_place.local_file("a.faiss") and copies(tmp_path / "cache") == []
    os.chmod(path, 0)  # nobody but root could read it now
    try:
        if os.getuid():
            assert cache.path(disk_place, "a.faiss", sha256) == path
    finally:
        os.chmod(path, 0o600)
    disk_place.write("a.faiss", data[:-1] + b"?")
    with pytest.raises(ArtifactCorrupt):
        cache.path(disk_place, "a.faiss", sha256)
    assert not caplog.records


def test_the_least_recently_used_files_make_room_but_none_that_is_in_use(s3_place: Storage, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    names = ["a.faiss", "b.faiss", "c.faiss", "d.faiss"]
    sha256 = {name: stored(s3_place, name)[0] for name in names}

    def held() -> set[str]:
        return {name for name in names if (folder / f"{SHARD}{sha256[name]}.faiss").exists()}

    for name in ("a.faiss", "b.faiss", "a.faiss"):  # a is used again, so b is the oldest
        one = ShardCache(str(folder), 2500)
        one.path(s3_place, name, sha256[name])
        one.close()
    using = ShardCache(str(folder), 2500)
    using.path(s3_place, "c.faiss", sha256["c.faiss"])
    assert held() == {"a.faiss", "c.faiss"}
    using.path(s3_place, "a.faiss", sha256["a.faiss"])
    other = ShardCache(str(folder), 2500)
    path = other.path(s3_place, "d.faiss", sha256["d.faiss"])  # a and c are in use: beside the cache
    assert held() == {"a.faiss", "c.faiss"} and Path(path).parent != folder and os.path.getsize(path) == 1000
    using.close()
    fresh = ShardCache(str(folder), 2500)
    assert Path(fresh.path(s3_place, "d.faiss", sha256["d.faiss"])).parent == folder
    assert len(held()) == 2 and "d.faiss" in held()
    fresh.close()


@pytest.mark.parametrize("broken", ["a file", "read-only", "too small"])
def test_a_directory_that_cannot_be_used_is_named_once_and_the_files_are_read_all_the_same(
    s3_place: Storage, tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    if broken == "a file":
        folder.write_bytes(b"")
    elif broken == "read-only":
        folder = Path("/proc/react_ray")  # no user can write there, not even root
    cache = ShardCache(str(folder), 10 if broken == "too small" else 0)
    with caplog.at_level(logging.WARNING):
        for name in ("a.faiss", "b.faiss"):
            sha256, data = stored(s3_place, name)
            assert Path(cache.path(s3_place, name, sha256)).read_bytes() == data
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"the cache of shards in {folder} cannot be used (") and "cluster.shard_cache_dir" in said
    s3_place.write("b.faiss", b"damaged")
    with pytest.raises(ArtifactCorrupt):
        cache.path(s3_place, "b.faiss", sha256)


FETCH = """
import hashlib, sys
from react_ray.index.shard_cache import ShardCache
from react_ray.storage import open_storage
uri, folder, *names = sys.argv[1:]
cache = ShardCache(folder, 100_000)
for name in names:
    name, sha256 = name.split("=")
    with open(cache.path(open_storage(uri), name, sha256), "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == sha256
cache.close()
"""


def test_processes_and_threads_that_need_the_same_files_at_once_all_get_them(s3_place: Storage, tmp_path: Path) -> None:
    names = [f"{number}.faiss" for number in range(6)]
    asked = [f"{name}={stored(s3_place, name, 30_000)[0]}" for name in names]
    folder = str(tmp_path / "cache")
    orders = (asked, asked[::-1], asked[3:] + asked[:3])
    processes = [subprocess.Popen([sys.executable, "-c", FETCH, s3_place.uri, folder, *order]) for order in orders]

    def fetch(order: list[str]) -> None:
        cache = ShardCache(folder, 100_000)  # three of the six files fit
        for one in order:
            name, sha256 = one.split("=")
            with open(cache.path(open_storage(s3_place.uri), name, sha256), "rb") as file:
                assert hashlib.sha256(file.read()).hexdigest() == sha256
        cache.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fetch, orders[:2]))
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert sum(path.stat().st_size for path in copies(Path(folder))) <= 100_000
