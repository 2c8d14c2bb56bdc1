"""What `react-ray stats` says of a download, finished or under way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from react_ray.cli import main
from react_ray.draft import create, open_unfinished
from react_ray.errors import ArtifactMismatch, ArtifactMissing
from react_ray.kinds import PAIRS
from react_ray.pairs.stats import NUM_HOSTS, collect_stats, host_of, stats
from tests.support.downloaded import downloaded
from tests.support.web import Web


def urls_of(web: Web) -> list[str | None]:
    fine: list[str | None] = [f"{web.host(1)}/image/{row}.jpg?side={100 + row}" for row in range(16)]
    return [
        *fine,
        f"{web.host(2)}/status/404",
        f"{web.host(2)}/status/503",
        f"{web.host(2)}/image/1.jpg?side=300",
        None,
    ]


def test_statuses_hosts_and_sizes_are_those_of_the_rows(web: Web, tmp_path: Path) -> None:
    found = collect_stats(downloaded(tmp_path, urls_of(web)))
    assert found.statuses == {"ok": 17, "http_404": 1, "http_503": 1, "no_url": 1}
    assert found.hosts == {"127.0.0.2": 16, "127.0.0.3": 3, "(no host)": 1}
    assert found.hosts_ok == {"127.0.0.2": 16, "127.0.0.3": 1, "(no host)": 0}
    assert sorted(found.shorter_sides.elements()) == [*range(100, 116), 300]


def test_the_command_prints_shares_rates_and_what_to_ask_again(
    web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = downloaded(tmp_path, urls_of(web))
    main(["stats", images.uri])
    text = capsys.readouterr().out
    assert "3 of 3 parts, 20 rows, 17 images (85.0%)" in text
    assert "2 s of work on parts, 13 rows and 11 images per second" in text
    assert "1 rows may give an image when they are asked again: react-ray download --retry-failed" in text
    assert [line.split() for line in text.splitlines() if line.startswith("127.0.0.3")] == [
        ["127.0.0.3", "3", "1", "33.3%"]
    ]
    assert "101 (10 %), 108 (half), 115 pixels (90 %)" in text
    main(["stats", images.uri, "--json"])
    value = json.loads(capsys.readouterr().out)
    assert (value["parts_done"], value["rows"], value["images"], value["may_pass_if_retried"]) == (3, 20, 17, 1)
    assert value["statuses"]["ok"] == 17
    assert value["hosts"][1] == {"host": "127.0.0.3", "rows": 3, "images": 1}


def test_a_download_under_way_has_stats_of_what_is_done(web: Web, tmp_path: Path) -> None:
    images = downloaded(tmp_path, urls_of(web), seal=False)
    assert "2 of 3 parts, 16 rows, 16 images (100.0%)" in stats(images.uri)


def test_hosts_are_not_guessed_from_pairs_of_another_list(web: Web, tmp_path: Path) -> None:
    images = downloaded(tmp_path, urls_of(web))
    (tmp_path / "pairs").rename(tmp_path / "elsewhere")
    assert "hosts: not known" in stats(images.uri)
    other = create(str(tmp_path / "pairs"), PAIRS, {"another": 1}, {}, 3)
    for part in range(3):
        other.commit(part, open_unfinished(str(tmp_path / "elsewhere")).read(part).slice(1), 0.0)
    other.seal()
    assert "hosts: not known" in stats(images.uri)


def test_only_the_largest_hosts_are_listed(web: Web, tmp_path: Path) -> None:
    refused: list[str | None] = [f"ftp://host-{row}.example/1.jpg" for row in range(60)]
    text = stats(downloaded(tmp_path, refused).uri)
    assert text.count(".example") == NUM_HOSTS and f"({NUM_HOSTS} of 60 hosts)" in text


@pytest.mark.parametrize("url", [None, "", "no url at all", "http://[broken/", "/path"])
def test_what_has_no_host_is_counted_as_such(url: str | None) -> None:
    assert host_of(url) == "(no host)"


def test_anything_else_than_images_is_refused(web: Web, tmp_path: Path) -> None:
    downloaded(tmp_path, [None])
    with pytest.raises(ArtifactMismatch, match="holds pairs; name an artifact of images"):
        stats(str(tmp_path / "pairs"))
    with pytest.raises(ArtifactMissing, match=r"no artifact here; name the directory of one, \S+/images$"):
        stats(str(tmp_path))
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(ArtifactMissing, match=r"name the directory of one, \S+/pairs$"):
        stats(str(tmp_path))


def test_pairs_without_urls_are_not_said_to_be_missing(web: Web, tmp_path: Path) -> None:
    assert f"hosts: not known, because {tmp_path}/pairs has no URLs" in stats(downloaded(tmp_path, [None] * 3).uri)
