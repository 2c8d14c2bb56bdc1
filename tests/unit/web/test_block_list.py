"""What a block list blocks, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.errors import ConfigError
from react_ray.web.block_list import BlockList, open_block_list
from react_ray.web.fetch_config import FetchConfig
from react_ray.web.web_url import parse_url

LIST = BlockList(["example.org", "*.wild.example", "http://part.example/art/", "https://port.example:81/x"])


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a",
        "https://deep.below.EXAMPLE.org./a",
        "http://wild.example/",
        "http://a.wild.example/",
        "http://part.example/art/1.jpg",
        "https://part.example/art/?x",
        "http://port.example:81/xy",
    ],
)
def test_a_domain_blocks_all_below_it_and_a_prefix_what_begins_so(url: str) -> None:
    assert LIST.blocks(parse_url(url))


@pytest.mark.parametrize(
    "url",
    ["http://notexample.org/", "http://example.org.evil.example/", "http://part.example/", "http://port.example/x"],
)
def test_others_are_not_blocked(url: str) -> None:
    assert not LIST.blocks(parse_url(url))


def test_the_file_and_the_recipe_both_count(tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").write_text("# ours\n\nfile.example\n  http://part.example/a \n")
    blocked = open_block_list(FetchConfig(blocked=["recipe.example"], blocked_file=str(tmp_path / "blocked.txt")))
    urls = ["http://file.example/", "http://part.example/ab", "http://recipe.example/", "http://else.example/"]
    assert [blocked.blocks(parse_url(url)) for url in urls] == [True, True, True, False]


@pytest.mark.parametrize("entry", ["example.org/path", "http://", "", "two words", "ftp://example.org/"])
def test_an_entry_that_cannot_be_meant_is_named(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"fetch\.blocked.*write a domain"):
        BlockList([entry])


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"fetch\.blocked_file.*UTF-8"):
        open_block_list(FetchConfig(blocked_file=str(tmp_path / "blocked.txt")))
