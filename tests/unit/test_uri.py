"""What names of places mean; what lies there is test_storage.py's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import react_ray
from react_ray.errors import ConfigError
from react_ray.storage import list_files, open_storage, read_bytes
from react_ray.uri import absolute, join, matches, split_glob, target


def test_parts_are_joined_with_one_slash() -> None:
    assert join("s3://bucket/", "/a/", "b") == "s3://bucket/a/b" and join("/", "a") == "/a"


@pytest.mark.parametrize(
    ("uri", "folder", "pattern"),
    [
        ("s3://b/x/*.csv", "s3://b/x", "*.csv"),
        ("/d/**/a?/c.tar", "/d", "**/a?/c.tar"),
        ("/d/[ab].txt", "/d", "[ab].txt"),
        ("/d/e", "/d/e", ""),
        ("/*", "/", "*"),
    ],
)
def test_a_glob_begins_below_the_last_plain_folder(uri: str, folder: str, pattern: str) -> None:
    assert split_glob(uri) == (folder, pattern)


@pytest.mark.parametrize(
    ("path", "pattern", "found"),
    [
        ("a.csv", "*.csv", True),
        ("x/a.csv", "*.csv", False),
        ("x/a.csv", "**/*.csv", True),
        ("a.csv", "**/*.csv", True),
        ("x/y/a.csv", "x/**", True),
        ("x/y/a.csv", "*/?/a.csv", True),
        ("x/a.csv", "x/[b-z].csv", False),
        ("A.csv", "a.csv", False),
    ],
)
def test_a_star_stays_in_its_folder_and_two_stars_do_not(path: str, pattern: str, found: bool) -> None:
    assert matches(path, pattern) is found


@pytest.mark.parametrize("name", ["p#hash", "p%20q", "p q", "p?q", "p+q", "p[1]", "p;v=1", "100%", "ü", "a&b=c", "p*"])
def test_a_folder_is_the_one_that_was_named_whatever_its_name(tmp_path: Path, name: str) -> None:
    for other in (name, name[0], "p", "p q", name.partition("%")[0], name.partition("?")[0]):
        (tmp_path / other).mkdir(exist_ok=True)
        (tmp_path / other / "a.txt").write_text(other)
    folder = tmp_path / name
    bare = [name] if "%" in name else [name, f"file://{folder}"]  # in a file URI, %20 is a space
    for uri in (str(folder), folder.as_uri(), *[uri for uri in bare if "/" in uri]):
        assert absolute(absolute(uri)) == str(folder)
        assert read_bytes(join(uri, "a.txt")) == name.encode()
        assert list_files(uri) == [str(folder / "a.txt")]


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a%20b/c%23d", "/a b/c#d"),
        ("file:///a#b?c", "/a#b?c"),
        ("file://localhost/a", "/a"),
        ("FILE:///a", "/a"),
        ("file:/a%20b", "/a b"),
        ("file:///100%", "/100%"),
        ("//a//b/", "/a/b"),
        ("S3://b/c", "s3://b/c"),
        ("s3://b/c/", "s3://b/c"),
        ("s3://b/", "s3://b"),
        ("s3://b/c#d %20?e", "s3://b/c#d %20?e"),
    ],
)
def test_a_uri_has_one_absolute_form(uri: str, path: str) -> None:
    assert absolute(uri) == absolute(absolute(uri)) == path


def test_bytes_that_are_no_text_name_a_file_as_the_system_does(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)
    assert os.fsencode(absolute(f"file://{tmp_path}/%FF")) == folder


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("s3://", "no bucket; write s3://bucket/prefix"),
        ("s3:///a", "no bucket"),
        ("s3:/b/c", "write s3://"),
        ("s3:b", "write s3://"),
        ("sample:pool.parquet", "write sample://"),
        ("s3://b//a", "two slashes in a row"),
        ("s3://b/a//c", "two slashes in a row"),
        ("s3://b/a//", "two slashes in a row"),
        ("s3://b/a/../c", "'..' between its slashes"),
        ("s3://b/./c", "'.' between its slashes"),
        ("file://data/a", "data is where a host stands; write file:/// and an absolute path"),
        ("file://", "write file:///"),
        ("sample://../secret", "remove the .."),
        ("recipes://../uri.py", "remove the .."),
        ("gs://b/a", "unknown scheme gs://"),
        ("/a\0b", "NUL"),
        ("file:///a%00b", "NUL"),
    ],
)
def test_a_uri_that_could_mean_another_place_is_refused(uri: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        absolute(uri)
    assert what in str(caught.value) and str(caught.value).isprintable() and "; " in str(caught.value)


def test_the_files_of_the_package_have_uris_of_their_own() -> None:
    assert read_bytes("recipes://sample.yaml").startswith(b"#") and b"name: sample" in read_bytes(
        "recipes://sample.yaml"
    )
    assert read_bytes("sample://tasks.json").startswith(b"{")


def test_a_password_in_a_uri_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        absolute("s3://user:secret@bucket/a")
    assert "secret" not in str(caught.value)


def test_two_dots_behind_a_link_are_refused_where_they_would_mean_two_places(tmp_path: Path) -> None:
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/away")
    assert absolute(f"{tmp_path}/far/../far") == f"{tmp_path}/far"
    with pytest.raises(ConfigError, match="means two places; name the folder itself"):
        absolute(f"{tmp_path}/link/../a")


def test_keys_with_two_slashes_in_a_row_are_refused_and_not_taken_for_others(s3: str) -> None:
    storage = open_storage(f"{s3}/slashes")
    storage.write("d/a.txt", b"one")
    storage._client.put_object(Bucket="bucket", Key="slashes/d//a.txt", Body=b"two")  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="two slashes in a row"):
        list_files(f"{s3}/slashes/d")
    with pytest.raises(ConfigError, match="two slashes in a row"):
        read_bytes(f"{s3}/slashes/d//a.txt")
    assert read_bytes(f"{s3}/slashes/d/a.txt") == b"one" and list_files(f"{s3}/slashes/d/*.txt")
    storage._client.delete_object(Bucket="bucket", Key="slashes/d//a.txt")  # type: ignore[attr-defined]


def test_a_bucket_is_a_folder(s3: str) -> None:
    open_storage(s3).write("of_the_bucket/a.txt", b"a")
    assert f"{s3}/of_the_bucket/a.txt" in list_files(s3) and list_files(f"{s3}/of_the_*/a.txt")


@pytest.mark.parametrize(
    "uri", ["sample://", "recipes://x", "sample://x", str(Path(react_ray.__file__).parent / "index"), "", " "]
)
def test_nothing_is_written_among_the_files_of_the_package_or_nowhere(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^out"):
        target(uri, "out")


def test_a_link_into_the_package_is_a_place_in_the_package(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(Path(react_ray.__file__).parent)
    with pytest.raises(ConfigError, match="among the files of react_ray"):
        target(str(tmp_path / "link/runs"), "out")
    assert target(f"{tmp_path}/runs", "out") == f"{tmp_path}/runs"
