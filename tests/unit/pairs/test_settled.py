"""The columns of a source are settled over all of its files, and stay when files are added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.source import IngestConfig, open_source, to_pairs
from tests.support.source_files import read_all

URLS = [f"http://a/{i}" for i in range(4)]


def written(folder: Path, suffix: str, *files: dict[str, Any]) -> IngestConfig:
    for i, columns in enumerate(files):
        table = pa.table({"url": URLS, "caption": URLS} | columns)
        path = folder / f"{len(list(folder.iterdir()))}{i}.{suffix}"
        feather.write_feather(table, path) if suffix == "feather" else pq.write_table(table, path)
    return IngestConfig(source=str(folder), rows_per_part=3)


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (pa.nulls(4), pa.array(list("abcd")), [None] * 4 + list("abcd")),
        (pa.array([1, 2, 3, 4], pa.int32()), pa.array([2**40] * 4), [1, 2, 3, 4] + [2**40] * 4),
        (pa.array([1, 2, 3, 4]), pa.array([0.5] * 4), [1.0, 2.0, 3.0, 4.0] + [0.5] * 4),
        (pa.array(list("abcd"), pa.large_string()), pa.array(list("abcd")).dictionary_encode(), list("abcdabcd")),
        (pa.array(list("abcd")), pa.array([["a", "b"]] * 4), [["a"], ["b"], ["c"], ["d"]] + [["a", "b"]] * 4),
        (pa.array([["x"]] * 4), pa.array([["x"]] * 4, pa.large_list(pa.string())), [["x"]] * 8),
    ],
)
def test_a_column_has_one_type_whichever_file_is_first(
    tmp_path: Path, suffix: str, first: pa.Array, second: pa.Array, expected: list[object]
) -> None:
    for name, files, values in (
        ("there", (first, second), expected),
        ("back", (second, first), expected[4:] + expected[:4]),
    ):
        (tmp_path / name).mkdir()
        config = written(tmp_path / name, suffix, *({"x": column} for column in files))
        assert read_all(config)["x"].to_pylist() == values


@pytest.mark.parametrize("name", ["url", "caption", "x"])
def test_types_that_nothing_unites_are_named_with_both_files(tmp_path: Path, name: str) -> None:
    config = written(tmp_path, "parquet", {name: list("abcd")}, {name: [1, 2, 3, 4]})
    with pytest.raises(
        ConfigError, match=rf"column '{name}' is string in .*00\.parquet and int64 in .*11\.parquet; write it with one"
    ):
        open_source(config)


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_an_empty_file_decides_nothing(tmp_path: Path, suffix: str) -> None:
    empty = pa.table({"url": pa.nulls(0), "caption": pa.nulls(0), "other": pa.nulls(0)})
    feather.write_feather(empty, tmp_path / "00.feather") if suffix == "feather" else pq.write_table(
        empty, tmp_path / "00.parquet"
    )
    pairs = read_all(written(tmp_path, suffix, {"x": [1, 2, 3, 4]}))
    assert pairs["url"].to_pylist() == URLS and pairs.column_names == ["pair_id", "url", "caption", "x"]


def test_a_column_is_null_where_a_file_lacks_it(tmp_path: Path) -> None:
    pairs = read_all(written(tmp_path, "parquet", {"x": [1] * 4}, {"y": [2] * 4}, {}))
    assert pairs["x"].to_pylist() == [1] * 4 + [None] * 8
    assert pairs["y"].to_pylist() == [None] * 4 + [2] * 4 + [None] * 4


def test_captions_that_pandas_wrote_as_null_are_missing(tmp_path: Path) -> None:
    config = written(tmp_path, "parquet", {"caption": pa.nulls(4)})
    assert read_all(config)["caption"].to_pylist() == [""] * 4
    config = written(tmp_path, "parquet", {})
    assert read_all(config)["caption"].to_pylist() == [""] * 4 + URLS
    config = written(tmp_path, "parquet", {"caption": pa.nulls(4), "text": URLS})
    assert open_source(config.model_copy(update={"source": str(tmp_path / "20.parquet")})).summary()[0] == (
        "4 rows; columns: caption = text, url = url; kept beside them: caption as source_caption"
    )


def test_files_that_are_added_change_no_column(tmp_path: Path) -> None:
    config = written(tmp_path, "parquet", {"x": pa.array([1] * 4, pa.int64())})
    before = open_source(config)
    config = written(tmp_path, "parquet", {"x": pa.array([2] * 4, pa.int32()), "y": [1] * 4})
    after = open_source(config, before.ends)
    assert after.schema == before.schema and after.read(0) == before.read(0)
    assert after.seen.lines() == ["passed over: columns of files that were added later, which parts before lack: 1 (y)"]
    config = written(tmp_path, "parquet", {"x": [0.5] * 4})
    with pytest.raises(ConfigError, match=r"'x' is int64 in .* and double in .*; ingest into another `database`"):
        open_source(config, after.ends)


def test_columns_with_reserved_names_are_all_kept(tmp_path: Path) -> None:
    config = written(
        tmp_path, "parquet", {"source_score": [1] * 4, "score": [2] * 4, "pair_id": [3] * 4, "captions": [4] * 4}
    )
    source = open_source(config)
    row = to_pairs(source.read(0), 0, config).to_pylist()[0]
    assert row == {
        "pair_id": 0, "url": URLS[0], "caption": URLS[0],
        "source_score": 1, "source_source_score": 2, "source_pair_id": 3, "captions": 4,
    }  # fmt: skip
    assert "score as source_source_score, pair_id as source_pair_id" in source.summary()[0]


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_more_columns_than_a_table_can_have_are_refused(tmp_path: Path, suffix: str) -> None:
    config = written(tmp_path, suffix, {f"c{i}": URLS for i in range(5000)})
    with pytest.raises(StorageError, match="more than 4,096 columns"):
        open_source(config)


@pytest.mark.parametrize(
    ("wide", "other", "message"),
    [
        (
            pa.array([1, 2, 3, 2**63], pa.uint64()),
            pa.array([-1] * 4, pa.int8()),
            "become int64, .* 9223372036854775808",
        ),
        (pa.array([1, 2, 3, 2**53 + 1]), pa.array([0.5] * 4, pa.float32()), "become double, .* 9007199254740993"),
        (pa.array([1, 2, 3, -(2**60)]), pa.array([0.5] * 4), "become double, .* -1152921504606846976"),
    ],
)
def test_integers_that_the_common_type_does_not_hold_are_refused_when_planning(
    tmp_path: Path, wide: pa.Array, other: pa.Array, message: str
) -> None:
    config = written(tmp_path, "parquet", {"n": other}, {"n": wide})
    with pytest.raises(ConfigError, match=rf"column 'n' is u?int64 in .*1.parquet and another number.*{message}"):
        open_source(config)
    few = pa.array([1, None, 3, 2**53], wide.type)
    (tmp_path / "11.parquet").unlink()
    values = read_all(written(tmp_path, "parquet", {"n": few}))["n"].to_pylist()
    assert values == [*other.to_pylist(), 1, None, 3, 2**53]
