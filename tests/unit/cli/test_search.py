"""`react-ray search` prints hits that are safe to print, saves their images, and says what is wrong in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from react_ray.cli import main
from tests.support.searchable import ANIMALS, many, png, write_searchable

HOSTILE = "a heron \x1b[31mred\x1b[0m\nand [bold]more[/bold] \u202eback"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    uri = str(tmp_path / "database")
    write_searchable(uri, [[HOSTILE, *ANIMALS], many(120)], png(tmp_path))
    return uri


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = 0
    try:
        main(["search", *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, *capsys.readouterr()


def test_hits_are_a_table(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ended(capsys, uri, "a violin", "-k", "3", "--key", "text")
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 6)
    assert lines[0] == f"'a violin' in 129 pairs of {uri}, text keys"
    assert lines[1].split() == ["score", "z", "caption", "pair_id", "url"]
    assert lines[2].split()[2:] == ["a", "violin", "8", "http://e.org/8.jpg"]
    assert float(lines[2].split()[0]) >= float(lines[3].split()[0]) and float(lines[2].split()[1]) > 2
    assert lines[-1] == "z: standard deviations above the mean score of the database's pairs"


def test_both_keys_have_a_column(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ended(capsys, uri, "a violin", "-k", "100", "--key", "both")
    assert "image and text keys" in out or "text and image keys" in out
    assert out.splitlines()[1].split()[:3] == ["score", "z", "key"]


def test_a_caption_cannot_write_to_the_terminal(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ended(capsys, uri, HOSTILE, "-k", "2", "--key", "text")
    assert "\x1b" not in out and "\u202e" not in out
    assert "a heron [31mred [0m and [bold]more[/bold] back" in out


def test_json_and_the_images(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "found"
    code, out, _ = ended(capsys, uri, "a violin", "-k", "4", "--key", "text", "--json", "--save", str(found))
    value = json.loads(out)
    assert code == 0 and value["database"] == uri and value["query"] == "a violin"
    assert value["hits"][0]["caption"] == "a violin" and len(value["hits"]) == 4
    assert (found / "001_8.png").read_bytes() == (tmp_path / "image.png").read_bytes()
    code, out, _ = ended(capsys, uri, "a heron", "-k", "129", "--key", "text", "--save", str(tmp_path / "all"))
    assert f"65 images are in {tmp_path}/all, 64 of the pairs have none" in out
    code, _, err = ended(capsys, uri, "a heron", "--save", str(found))
    assert code == 2 and "is not empty" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "name one thing to search for: a text in quotes"),
        (["a heron", "--image", "x.jpg"], "name one thing to search for"),
        (["a heron", "--key", "caption"], "key='caption' is none of image, text, both"),
        (["--image", "/nowhere.jpg"], "cannot read /nowhere.jpg"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    uri: str, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, out, err = ended(capsys, uri, *arguments)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1


def test_no_database_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ended(capsys, str(tmp_path), "a heron")
    assert code == 2 and "is no embedded database" in err and err.count("\n") == 1
