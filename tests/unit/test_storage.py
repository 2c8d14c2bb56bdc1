"""The same calls, the same results, on disk and on S3."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.errors import ConfigError, StorageError
from react_ray.storage import (
    LocalStorage,
    Storage,
    absolute,
    arrow_filesystem,
    check_writable,
    join,
    list_files,
    local_file,
    open_arrow_file,
    open_parquet,
    open_storage,
    open_stream,
    read_bytes,
    read_range,
    versions,
)
from tests.support.s3_server import PAGE


def parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_what_is_written_is_read_listed_and_deleted(place: Storage) -> None:
    assert place.list() == [] and not place.exists("a")
    for path in ("b/c/d", "a", "b/c.json", "bb"):
        place.write(path, path.encode())
    place.write("a", b"")
    assert place.list() == ["a", "b/c.json", "b/c/d", "bb"]
    assert place.list("b") == ["b/c.json", "b/c/d"]  # a folder, not every name that begins so
    assert place.list("nothing") == []
    assert place.read("a") == b"" and place.read("b/c/d") == b"b/c/d"
    assert place.exists("b/c/d") and not place.exists("b/c")
    place.delete("a")
    place.delete("a")
    assert place.list() == ["b/c.json", "b/c/d", "bb"]
    place.delete_all("b")
    assert place.list() == ["bb"]


def test_a_place_within_a_place_is_the_same_place(place: Storage) -> None:
    place.at("x", "y").write("z", b"1")
    assert place.list() == ["x/y/z"]
    assert read_bytes(join(place.uri, "x/", "/y", "z")) == b"1"
    assert Path(local_file(join(place.uri, "x/y/z"))).read_bytes() == b"1"


def test_one_file_or_all_files_of_a_folder(place: Storage) -> None:
    for path in ("d/2.parquet", "d/1.parquet", "d/e/3.parquet", "d/notes.txt"):
        place.write(path, b"")
    names = [uri.removeprefix(place.uri) for uri in list_files(join(place.uri, "d"), ".parquet")]
    assert names == ["/d/1.parquet", "/d/2.parquet", "/d/e/3.parquet"]
    assert list_files(join(place.uri, "d/1.parquet"), ".parquet") == [join(place.uri, "d/1.parquet")]
    assert list_files(join(place.uri, "nothing"), ".parquet") == []


def test_a_glob_is_the_files_that_it_matches(place: Storage) -> None:
    for path in ("d/1.csv", "d/2.csv", "d/e/3.csv", "d/[x].csv", "d/e/f/4.csv", "d/a.csv.gz"):
        place.write(path, b"")

    def found(pattern: str) -> list[str]:
        return [uri.removeprefix(f"{place.uri}/d/") for uri in list_files(join(place.uri, "d", pattern))]

    assert found("[0-9].csv") == found("?.csv") == ["1.csv", "2.csv"]
    assert found("*/*.csv") == ["e/3.csv"]
    assert found("**/[0-9].csv") == ["1.csv", "2.csv", "e/3.csv", "e/f/4.csv"]
    assert found("[x].csv") == ["[x].csv"], "a file of that very name comes first"
    assert found("*.tar") == []


def test_sizes_are_those_of_the_files(place: Storage) -> None:
    for path in ("d/1", "d/e/22", "f"):
        place.write(path, path.encode())
    assert place.sizes() == {"d/1": 3, "d/e/22": 6, "f": 1} and place.sizes("d") == {"d/1": 3, "d/e/22": 6}


def test_a_range_is_those_bytes_and_no_fewer(place: Storage) -> None:
    data = bytes(range(256)) * 100
    place.write("f", data)
    assert place.read_range("f", 300, 1000) == data[300:1300] and place.read_range("f", 7, 0) == b""
    assert read_range(join(place.uri, "f"), 25_599, 1) == data[-1:]
    with pytest.raises(StorageError, match=r"cannot read .*place/f: it ends before byte 25601.*write it again"):
        place.read_range("f", 25_599, 2)


def test_a_stream_is_read_on_and_sought_in(place: Storage) -> None:
    place.write("f", b"one\ntwo\nthree")
    with open_stream(join(place.uri, "f")) as file:
        assert list(file) == [b"one\n", b"two\n", b"three"]
        file.seek(4)
        assert file.read(3) == b"two"
    assert open_arrow_file(join(place.uri, "f")).read_at(3, 4) == b"two"


def test_parquet_is_read_where_it_lies(place: Storage) -> None:
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    place.write("t.parquet", parquet_bytes(table))
    assert place.parquet("t.parquet").read().equals(table)
    assert open_parquet(join(place.uri, "t.parquet")).read(columns=["b"]).equals(table.select(["b"]))
    filesystem, path = arrow_filesystem(join(place.uri, "t.parquet"))
    assert pq.read_table(path, filesystem=filesystem).equals(table)


@pytest.mark.parametrize("verb", ["read", "parquet", "local_file", "stream", "arrow_file"])
def test_a_missing_file_is_an_error_that_names_it_and_says_what_to_do(place: Storage, verb: str) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*place/gone\.parquet.*check") as caught:
        getattr(place, verb)("gone.parquet")
    assert "not a Parquet file" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 3, 40, 400])
def test_a_truncated_parquet_file_says_so(place: Storage, kept: int) -> None:
    place.write("t.parquet", parquet_bytes(pa.table({"a": range(1000)}))[:kept])
    with pytest.raises(StorageError, match="not a Parquet file"):
        place.parquet("t.parquet")


def test_a_local_file_follows_the_object(place: Storage) -> None:
    path = "d/" + 40 * "long" + "/f.json"
    place.write(path, b"old")
    first = place.local_file(path)
    assert place.local_file(path) == first and Path(first).read_bytes() == b"old"
    place.write(path, b"new")
    assert Path(place.local_file(path)).read_bytes() == b"new" and first.endswith(".json")


def test_check_writable_leaves_nothing_behind(place: Storage) -> None:
    check_writable(place.uri)
    assert place.list() == []


def test_an_unwritable_place_is_an_error_before_the_run(tmp_path: Path, s3: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    for uri in (str(tmp_path / "file" / "folder"), "s3://no-such-bucket/folder"):
        with pytest.raises(StorageError, match=f"cannot write {uri}.*check"):
            check_writable(uri)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    storage.write("taken/inside", b"old")
    with pytest.raises(StorageError, match="cannot write"):
        storage.write("taken", b"new")  # a folder has this name
    assert os.listdir(tmp_path) == ["taken"] and storage.read("taken/inside") == b"old"


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    versions = [bytes([i]) * 200_000 for i in range(30)]
    storage.write("f", versions[0])

    def rewrite() -> None:
        for data in versions[1:]:
            storage.write("f", data)

    writer = threading.Thread(target=rewrite)
    writer.start()
    seen = []
    while writer.is_alive():
        seen.append(storage.read("f"))
        assert all(path == "f" for path in storage.list())
    writer.join()
    assert set(seen) <= set(versions)
    assert storage.read("f") == versions[-1] and os.listdir(tmp_path) == ["f"]


def test_the_markers_of_folders_that_consoles_make_are_not_files(s3_place: Storage) -> None:
    key = s3_place._key("folder") + "/"  # type: ignore[attr-defined]
    s3_place._client.put_object(Bucket="bucket", Key=key, Body=b"")  # type: ignore[attr-defined]
    s3_place.write("folder/f", b"1")
    assert s3_place.list() == s3_place.list("folder") == ["folder/f"]


def test_more_objects_than_one_answer_holds_are_all_listed(s3_place: Storage) -> None:
    names = [f"{i:04d}" for i in range(2 * PAGE + 1)]
    for name in names:
        s3_place.write(name, b"")
    assert s3_place.list() == names


@pytest.mark.parametrize("name", ["a#b", "a?b", "a b", "a+b", "a%20b", "ä"])
def test_any_name_can_be_stored(place: Storage, name: str) -> None:
    there = open_storage(join(place.uri, name))
    there.write("f", b"1")
    assert there.list() == ["f"] and place.list() == [f"{name}/f"]


def test_the_sample_is_a_place(sample_dir: Path) -> None:
    assert read_bytes("sample://tasks.json") == (sample_dir / "tasks.json").read_bytes()
    assert local_file("sample://tasks.json") == str(sample_dir / "tasks.json")
    assert "pool.parquet" in open_storage("sample://").list()


def test_local_places_have_one_name(tmp_path: Path) -> None:
    assert absolute(f"file://{tmp_path}") == absolute(f"{tmp_path}/x/..") == str(tmp_path)
    assert absolute("~/x") == str(Path.home() / "x") and absolute("x") == str(Path.cwd() / "x")


@pytest.mark.parametrize("uri", ["gs://bucket/x", "http://host/x", "s3:///x"])
def test_an_unknown_scheme_or_no_bucket_says_which_places_there_are(uri: str) -> None:
    with pytest.raises(ConfigError, match="s3://"):
        open_storage(uri)


def test_a_file_that_is_written_in_pieces_is_there_whole_or_not_at_all(place: Storage) -> None:
    with place.writing("deep/large") as file:
        file.write(b"one, ")
        assert not place.exists("deep/large")
        file.write(b"two")
    assert place.read("deep/large") == b"one, two"
    with pytest.raises(ZeroDivisionError), place.writing("deep/large") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert place.list() == ["deep/large"] and place.read("deep/large") == b"one, two"


def test_a_file_is_swapped_only_if_it_holds_what_was_expected(place: Storage) -> None:
    assert not place.swap("f", b"old", b"new") and place.list() == []
    assert place.swap("d/f", None, b"old") and not place.swap("d/f", None, b"other")
    assert not place.swap("d/f", b"other", b"new") and place.read("d/f") == b"old"
    assert place.swap("d/f", b"old", b"new") and place.read("d/f") == b"new"


KILLED = """
import os, signal, sys
from react_ray.storage import open_storage
with open_storage(sys.argv[1]).writing("d/f") as file:
    file.write(bytes(100_000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_swept_and_a_living_writer_goes_on(disk_place: Storage) -> None:
    subprocess.run([sys.executable, "-c", KILLED, disk_place.uri])
    folder = Path(disk_place.uri, "d")
    [left] = os.listdir(folder)
    assert left.startswith(".writing-")
    with disk_place.writing("d/g") as file:
        file.write(b"1")
        disk_place.sweep()
        assert left not in os.listdir(folder) and len(os.listdir(folder)) == 1
    disk_place.sweep()
    assert os.listdir(folder) == ["g"] and disk_place.read("d/g") == b"1"


def test_a_full_disk_is_a_storage_error_also_while_a_large_file_is_written(disk_place: Storage) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*/f: File too large; make room"):
            disk_place.write("f", bytes(100_000))
        with (
            pytest.raises(StorageError, match=r"cannot write .*/f: File too large; make room"),
            disk_place.writing("f") as file,
        ):
            for _ in range(100):
                file.write(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(disk_place.uri) == []


def test_a_version_differs_once_a_file_was_written_again(place: Storage) -> None:
    assert place.versions() == versions(place.uri) == versions(f"{place.uri}/*.csv") == {}
    for name in ("a.csv", "a.csv.md", "b/c.csv"):
        place.write(name, name.encode())
    before = place.versions()
    assert set(before) == {"a.csv", "a.csv.md", "b/c.csv"} and place.versions("b") == {"b/c.csv": before["b/c.csv"]}
    assert place.versions("a.csv") == {"a.csv": before["a.csv"]} == versions(f"{place.uri}/a.csv")
    assert list(versions(f"{place.uri}/**/*.csv").values()) == [before["a.csv"], before["b/c.csv"]]
    place.write("a.csv", b"other, and longer")  # the times of two writes may be the same tick of the clock
    after = place.versions()
    assert [name for name in before if before[name] != after[name]] == ["a.csv"]
