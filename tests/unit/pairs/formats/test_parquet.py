from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.source import IngestConfig, open_source
from tests.support.source_files import read_all

URLS: list[str | None] = [f"http://a/{i}" for i in range(2000)]


def written(path: Path, columns: dict[str, object], **options: object) -> str:
    pq.write_table(pa.table(columns), path, **options)
    return str(path)


def test_rows_without_url_or_image_are_counted_when_planning(tmp_path: Path) -> None:
    urls = [None, *URLS[1:]]
    config = IngestConfig(source=written(tmp_path / "a.parquet", {"url": urls, "caption": urls}, row_group_size=500))
    assert open_source(config).seen.lines() == ["rows that cannot be used: rows without url: 1 (a.parquet row group 0)"]
    blank = ["", "  \n", *urls[:-2]]
    config = IngestConfig(source=written(tmp_path / "a.parquet", {"url": blank, "caption": URLS}, row_group_size=500))
    assert open_source(config).seen.lines() == [
        "rows that cannot be used: rows without url: 3 (a.parquet row group 0, ...)"
    ]
    config = IngestConfig(source=written(tmp_path / "a.parquet", {"url": [" "] * 200 + URLS[200:], "caption": URLS}))
    with pytest.raises(ConfigError, match=r"200 of the 2,000 rows .*: rows without url"):
        open_source(config)
    images = pa.array([b"x", None] * 1000)
    config = IngestConfig(source=written(tmp_path / "b.parquet", {"image": images, "caption": URLS}))
    with pytest.raises(ConfigError, match=r"1,000 of the 2,000 rows .*: rows without image: 1,000"):
        open_source(config)
    config = IngestConfig(source=written(tmp_path / "c.parquet", {"url": pa.nulls(2000), "caption": URLS}))
    with pytest.raises(ConfigError, match=r"2,000 of the 2,000 rows .*: rows without url"):
        open_source(config)


@pytest.mark.parametrize("kind", ["text", "categories", "bytes"])
def test_values_that_a_small_file_repeats_into_gigabytes_are_refused(tmp_path: Path, kind: str) -> None:
    value = "x" * 500_000
    column = pa.array([value] * 2000) if kind == "text" else pa.array([value.encode()] * 2000)
    if kind == "categories":
        column = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array([value]))
    uri = written(tmp_path / "a.parquet", {"url": URLS, "caption": URLS, "extra": column}, compression="zstd")
    assert Path(uri).stat().st_size < 100_000
    with pytest.raises(StorageError, match="repeat"):
        open_source(IngestConfig(source=uri)).read(0)


def test_text_that_is_no_utf8_is_replaced_in_its_row_alone(tmp_path: Path) -> None:
    broken = pa.array([b"http://a/\xff", b"http://b"]).view(pa.string())
    uri = written(tmp_path / "a.parquet", {"url": broken, "caption": broken})
    pairs = read_all(IngestConfig(source=uri))
    assert pairs["url"].to_pylist() == pairs["caption"].to_pylist() == ["http://a/\ufffd", "http://b"]


@pytest.mark.parametrize("names", [["url", "caption", "x", "x"], ["url", "caption", "caption", "y"]])
def test_two_columns_of_one_name_are_refused_by_name(tmp_path: Path, names: list[str]) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(URLS)] * 4, names), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=re.escape(f"several columns named {names[2]}; rename")):
        open_source(IngestConfig(source=str(tmp_path)))


def test_two_fields_of_one_name_in_a_struct_are_refused_by_name(tmp_path: Path) -> None:
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["k", "k"])
    lists = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), twice)
    uri = written(tmp_path / "a.parquet", {"url": ["http://a"], "caption": ["a"], "x": lists})
    with pytest.raises(ConfigError, match="several fields named k in the structs of column 'x'; rename"):
        open_source(IngestConfig(source=uri))
