"""Keys and lists are found wherever they come first, and what is no row is counted or refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from react_ray.errors import ConfigError, ReactRayError, StorageError
from react_ray.pairs.formats import json_rows
from react_ray.pairs.source import IngestConfig, open_source
from tests.support.source_files import read_all, write

ROWS = [{"url": f"http://a/{i}", "caption": f"c {i}"} for i in range(1100)]  # more than the head
FORMS = ["list.jsonl", "list.json", "list.jsonl.gz"]


def written(folder: Path, name: str, rows: list[dict[str, object]]) -> str:
    text = json.dumps(rows) if name == "list.json" else "".join(json.dumps(row) + "\n" for row in rows)
    return write(folder, name, text.encode())


@pytest.mark.parametrize("name", FORMS)
def test_a_key_that_comes_late_is_a_column(tmp_path: Path, name: str) -> None:
    rows = [*ROWS, {"url": "http://b", "caption": "x", "similarity": 0.5, "größe": {"a": [1]}}]
    pairs = read_all(IngestConfig(source=written(tmp_path, name, rows)))
    assert pairs["similarity"].to_pylist() == [None] * 1100 + ["0.5"]
    assert pairs["größe"].to_pylist()[-1] == '{"a": [1]}'


def test_the_key_of_a_line_is_its_column_though_it_reads_like_bytes_of_another_name(tmp_path: Path) -> None:
    line = json.dumps({"url": "http://a", "caption": "x", "Ã©": "kept"}, ensure_ascii=False)
    pairs = read_all(IngestConfig(source=write(tmp_path, "list.jsonl", line.encode())))
    assert pairs["Ã©"].to_pylist() == ["kept"]


@pytest.mark.parametrize("name", FORMS)
def test_a_list_that_comes_late_is_a_list_and_the_captions_before_are_lists_of_one(tmp_path: Path, name: str) -> None:
    rows = [*ROWS, {"url": "http://b", "caption": ["x", "y"]}, {"url": "http://b", "caption": []}]
    pairs = read_all(IngestConfig(source=written(tmp_path, name, rows), rows_per_part=400))
    assert pairs["caption"].to_pylist() == [*(row["caption"] for row in ROWS), "x", ""]
    assert pairs["captions"].to_pylist() == [*([row["caption"]] for row in ROWS), ["x", "y"], []]


@pytest.mark.parametrize("name", FORMS)
def test_even_the_url_may_come_late(tmp_path: Path, name: str) -> None:
    rows = [{"caption": "x"}] * 1100 + ROWS
    config = IngestConfig(source=written(tmp_path, name, rows), max_unusable=1)
    assert read_all(config)["url"].to_pylist() == [None] * 1100 + [row["url"] for row in ROWS]
    assert f"rows that cannot be used: rows without url: 1,100 ({name}, ...)" in open_source(config).summary()
    with pytest.raises(ConfigError, match="1,100 of the 2,200 rows"):
        open_source(IngestConfig(source=config.source))


def test_files_of_texts_and_of_lists_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"url": "http://a", "caption": "c"}\n')
    (tmp_path / "b.jsonl").write_text('{"url": "http://b", "caption": ["d", "e"], "similarity": 0.3}\n')
    pairs = read_all(IngestConfig(source=str(tmp_path)))
    assert pairs["captions"].to_pylist() == [["c"], ["d", "e"]]
    assert pairs["similarity"].to_pylist() == [None, "0.3"]


BAD = ["null", "{bad", "[1, 2]", '"text"', '{"url": "http://b"} {"url": "http://c"}', "1" * 5000, "[" * 100_000]


@pytest.mark.parametrize("bad", BAD)
def test_a_line_that_is_no_object_is_counted_and_shifts_no_other(tmp_path: Path, bad: str) -> None:
    lines = [json.dumps(row) for row in ROWS]
    lines[7], lines[8] = bad, lines[8] + "\n"
    config = IngestConfig(source=write(tmp_path, "list.jsonl", "\n".join(lines).encode()), rows_per_part=9)
    assert read_all(config)["url"].to_pylist() == [None if i == 7 else row["url"] for i, row in enumerate(ROWS)]
    assert open_source(config).seen.lines() == [
        "rows that cannot be used: rows that are no JSON object: 1 (list.jsonl row 8)"
    ]
    with pytest.raises(ConfigError, match=r"1 of the 1,100 rows .* cannot be used: rows that are no JSON object: 1"):
        open_source(config.model_copy(update={"max_unusable": 0.0}))


def test_an_element_that_is_no_object_is_counted(tmp_path: Path) -> None:
    rows = [*ROWS, 7, None, {"url": ""}]
    config = IngestConfig(source=write(tmp_path, "list.json", json.dumps(rows).encode()))
    assert read_all(config)["url"].to_pylist()[-3:] == [None] * 3
    assert [counted.count for counted in open_source(config).seen.unusable.values()] == [2, 1]


COLUMNS = {"url": {"0": "http://a", "1": "http://b"}, "caption": {"0": "x", "1": "y"}}


@pytest.mark.parametrize(
    "value",
    [
        COLUMNS,
        {"0": {"url": "http://a", "caption": "x"}, "1": {"url": "http://b", "caption": "y"}},
        {"columns": ["url", "caption"], "index": [0], "data": [["http://a", "x"]]},
        {"schema": {"fields": []}, "data": [{"url": "http://a", "caption": "x"}]},
        {"url": ["http://a", "http://b"], "caption": ["x", "y"]},
        [COLUMNS],
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_table_that_is_not_written_in_rows_is_refused_with_how_to_write_it(
    tmp_path: Path, value: object, indent: int | None
) -> None:
    uri = write(tmp_path, "list.json", json.dumps(value, indent=indent).encode())
    with pytest.raises(ReactRayError, match=re.escape("(pandas: to_json(orient='records'))")):
        open_source(IngestConfig(source=uri))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("keys_per_row", [40_000, 10])
def test_more_keys_than_a_table_can_have_are_refused(tmp_path: Path, name: str, keys_per_row: int) -> None:
    rows = [
        {"url": "http://a", **{f"k{i * keys_per_row + j}": 1 for j in range(keys_per_row)}}
        for i in range(40_000 // keys_per_row)
    ]
    with pytest.raises(StorageError, match="more than 4,096 columns; put those that belong together"):
        open_source(IngestConfig(source=written(tmp_path, name, rows)))


@pytest.mark.parametrize("text", [b'[{"a": ' + b"[" * 100_000, b"[" + b"1" * 5000 + b"]"])
def test_an_array_that_cannot_be_parsed_is_one_line(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(StorageError, match=r"no JSON at byte 1: .*; correct it") as raised:
        open_source(IngestConfig(source=write(tmp_path, "list.json", text)))
    assert "\n" not in str(raised.value)


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_OBJECT_BYTES", 2 << 20)
    uri = write(tmp_path, "list.jsonl.gz", b'{"url": "http://a"}\n{"url": "' + b"x" * (64 << 20))
    with pytest.raises(StorageError, match="line 2 is longer than 2 MiB"):
        open_source(IngestConfig(source=uri))
