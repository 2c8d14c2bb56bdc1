"""Arrow IPC of any type is read, and batches that point outside of themselves are refused before they are used."""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa
import pytest

from react_ray.errors import StorageError
from react_ray.pairs.source import IngestConfig, open_source
from tests.support.source_files import read_all

URLS = [f"http://a/{i}" for i in range(40)]


def write_arrow(path: Path, table: pa.Table, is_stream: bool = False) -> str:
    new = pa.ipc.new_stream if is_stream else pa.ipc.new_file
    with new(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return str(path)


@pytest.mark.parametrize("is_stream", [False, True])
def test_text_and_lists_are_read_in_every_encoding_of_arrow(tmp_path: Path, is_stream: bool) -> None:
    text, views = pa.string(), pa.string_view()
    table = pa.table(
        {
            "url": pa.array(URLS, views),
            "caption": pa.array([["a", None]] * 39 + [None], pa.large_list_view(views)),
            "run": pa.RunEndEncodedArray.from_arrays(pa.array([20, 40], pa.int32()), pa.array(["p", "q"])),
            "none": pa.nulls(40),
            "fixed": pa.array([[1, 2]] * 40, pa.list_(pa.int32(), 2)),
            "struct": pa.array([{"a": "x", "b": [1]}] * 40, pa.struct([("a", views), ("b", pa.list_view(pa.int64()))])),
            "empty": pa.array([{}] * 40, pa.struct([])),
            "union": pa.UnionArray.from_sparse(
                pa.array([0, 1] * 20, pa.int8()), [pa.array(["x"] * 40), pa.array(URLS)]
            ),
            "interval": pa.array([(1, 2, 3)] * 40, pa.month_day_nano_interval()),
            "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"] * 40)),
            "map": pa.array([[("k", "v")]] * 40, pa.map_(text, text)),
        }
    )
    pairs = read_all(IngestConfig(source=write_arrow(tmp_path / "a.arrow", table, is_stream), rows_per_part=9))
    assert pairs["url"].to_pylist() == URLS and pairs["caption"].to_pylist() == ["a"] * 39 + [""]
    assert pairs["captions"].to_pylist() == [["a", None]] * 39 + [None]
    assert pairs["run"].to_pylist() == ["p"] * 20 + ["q"] * 20 and pairs["fixed"].to_pylist() == [[1, 2]] * 40
    assert pairs["struct"].to_pylist() == [{"a": "x", "b": [1]}] * 40 and pairs["none"].null_count == 40
    assert pairs["union"].to_pylist()[:2] == ["x", "http://a/1"] and pairs["json"].type == text
    assert pairs["interval"][0].as_py() == "MonthDayNano(months=1, days=2, nanoseconds=3)"
    assert pairs["map"].to_pylist() == [[("k", "v")]] * 40 and pairs["empty"].type == text


def test_categories_are_text(tmp_path: Path) -> None:
    table = pa.table({"url": URLS, "caption": pa.array(["x", None] * 20).dictionary_encode()})
    pairs = read_all(IngestConfig(source=write_arrow(tmp_path / "a.arrow", table)))
    assert pairs["caption"].to_pylist() == ["x", ""] * 20


@pytest.mark.parametrize("offset", [1 << 20, -(1 << 20), 1 << 30])
@pytest.mark.parametrize("column", ["url", "caption", "tags", "kind"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_offsets_outside_of_a_batch_are_an_error_and_no_crash(
    tmp_path: Path, offset: int, column: str, is_stream: bool
) -> None:
    marks = {
        "url": 3_333,
        "caption": 4_444,
        "tags": 5_555,
        "kind": 6_666,
    }  # lengths of the first texts, which the offsets show
    table = pa.table(
        {
            "url": ["u" * marks["url"], "v"],
            "caption": ["c" * marks["caption"], "d"],
            "tags": [["t"] * marks["tags"], ["s"]],
            "kind": pa.array(["k" * marks["kind"], "l"]).dictionary_encode(),
        }
    )
    if is_stream:
        table = table.drop_columns("kind") if column != "kind" else table
    path = Path(write_arrow(tmp_path / "a.arrow", table, is_stream))
    before = struct.pack("<i", marks[column])
    data = path.read_bytes()
    assert data.count(before) >= 1
    path.write_bytes(data.replace(before, struct.pack("<i", offset)))
    config = IngestConfig(source=str(path))
    with pytest.raises(StorageError, match=r"a\.arrow: .*write it again"):
        open_source(config).read(0)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_text_that_is_no_utf8_is_replaced_in_its_row_alone(tmp_path: Path, kind: pa.DataType) -> None:
    big = pa.large_binary() if kind == pa.large_string() else pa.binary()
    broken = pa.array([b"http://a/\xff\xfe", b"http://b", None], big).view(kind)
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), broken)
    path = write_arrow(tmp_path / "a.arrow", pa.table({"url": broken, "caption": lists}))
    pairs = read_all(IngestConfig(source=path, max_unusable=1))
    assert pairs["url"].to_pylist() == ["http://a/\ufffd\ufffd", "http://b", None]
    assert pairs["captions"].to_pylist() == [["http://a/\ufffd\ufffd"], ["http://b"], [None]]


def test_text_that_is_no_utf8_is_replaced_within_other_types_too(tmp_path: Path) -> None:
    broken = pa.array([b"a\xff", b"b"]).view(pa.string())
    columns = {
        "url": ["http://a", "http://b"],
        "caption": pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), broken),
        "about": pa.StructArray.from_arrays([broken, pa.array([b"\xff", None])], ["text", "bytes"]),
        "tags": pa.MapArray.from_arrays(pa.array([0, 1, 2], pa.int32()), broken, pa.array([1, 2])),
    }
    pairs = read_all(IngestConfig(source=write_arrow(tmp_path / "a.arrow", pa.table(columns))))
    assert pairs["caption"].to_pylist() == ["a\ufffd", "b"]
    assert pairs["about"].to_pylist() == [{"text": "a\ufffd", "bytes": b"\xff"}, {"text": "b", "bytes": None}]
    assert pairs["tags"].to_pylist() == [[("a\ufffd", 1)], [("b", 2)]]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_null_and_blank_urls_are_counted_when_planning(tmp_path: Path, is_stream: bool, kind: pa.DataType) -> None:
    urls = pa.array(["", None, " \t", *URLS[3:]], kind)
    table = pa.table({"url": urls, "caption": URLS, "n": pa.array(range(40), pa.int8())})
    config = IngestConfig(source=write_arrow(tmp_path / "a.arrow", table, is_stream), max_unusable=0.1)
    source = open_source(config)
    assert source.seen.lines() == ["rows that cannot be used: rows without url: 3 (a.arrow batch 0, ...)"]
    assert source.num_rows == 40
