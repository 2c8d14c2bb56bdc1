"""What names of places mean; what lies there is test_storage.py's."""

from __future__ import annotations

import pytest

from react_ray.uri import join, matches, split_glob


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
