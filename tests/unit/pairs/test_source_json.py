"""What react_ray.pairs.source promises of JSON: lines or one array, several captions, and what is no object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from react_ray.errors import StorageError
from react_ray.pairs.formats import json_array, json_rows
from react_ray.pairs.source import IngestConfig, open_source
from tests.support.source_files import read_all, write

ODD_LINES = [
    b'{"url": "http://a/0", "caption": "zero", "tags": ["a", "b"], "score": 0.5}',
    b"{not json",
    b"[1, 2]",
    b'{"caption": "\\ud800 half", "score": 12345678901234567890, "url": null}',
    b"\xff",
    b'{"url": "http://a/5", "caption": ["a", 1], "tags": "c", "score": {"a": null}, "late": 1}',
]


@pytest.mark.parametrize("name", ["list.jsonl", "list.jsonl.gz", "list.ndjson", "list.json"])
def test_a_line_that_is_no_object_is_an_empty_row(tmp_path: Path, name: str) -> None:
    uri = write(tmp_path, name, b"\n\n".join(ODD_LINES))
    pairs = read_all(IngestConfig(source=uri, rows_per_part=4, max_unusable=1))
    assert pairs["url"].to_pylist() == ["http://a/0", None, None, None, None, "http://a/5"]
    assert pairs["caption"].to_pylist() == ["zero", "", "", "? half", "", '["a", 1]']
    assert pairs["source_score"].to_pylist() == ["0.5", None, None, "12345678901234567890", None, '{"a": null}']
    assert pairs["late"].to_pylist() == [None] * 5 + ["1"]


def test_several_captions_of_json_stay_a_list_and_one_alone_becomes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "FIRST_ROWS", 2)
    rows = [
        {"url": "a", "caption": ["x", "y"]},
        {"url": "b"},
        {"url": "c", "caption": "z"},
        {"url": "d", "caption": [None, 1]},
    ]
    uri = write(tmp_path, "list.json", json.dumps(rows).encode())
    pairs = read_all(IngestConfig(source=uri, rows_per_part=3))
    assert pairs["caption"].to_pylist() == ["x", "", "z", ""]
    assert pairs["captions"].to_pylist() == [["x", "y"], None, ["z"], [None, "1"]]


def test_elements_of_a_json_array_are_found_wherever_a_read_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"url": f"http://ä/{i}", "caption": '"]}, {[\\' * (i % 5), "n": [i, {"a": -1.5e3}]} for i in range(40)]
    for text in (
        json.dumps(rows),
        json.dumps(rows, indent=2, ensure_ascii=False),
        f" {json.dumps(rows, separators=(',', ':'))}\n",
    ):
        uri = write(tmp_path, "list.json", text.encode())
        for read_bytes in (16, 61, 1000):
            monkeypatch.setattr(json_array, "READ_BYTES", read_bytes)
            pairs = read_all(IngestConfig(source=uri, rows_per_part=7))
            assert pairs["url"].to_pylist() == [row["url"] for row in rows]
            assert pairs["caption"].to_pylist() == [row["caption"] for row in rows]
            assert [json.loads(n) for n in pairs["n"].to_pylist()] == [row["n"] for row in rows]


@pytest.mark.parametrize(
    "text", ['[{"url": "a"} {"url": "b"}]', '[{"url": "a"}, {"url": ', '[{"url": "a"},]', '[{"url": "a"}, nope]']
)
def test_a_broken_json_array_says_where(tmp_path: Path, text: str) -> None:
    uri = write(tmp_path, "list.json", text.encode())
    with pytest.raises(StorageError, match=r"no JSON at byte \d+.*correct it"):
        open_source(IngestConfig(source=uri))
