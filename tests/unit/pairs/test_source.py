"""What react_ray.pairs.source promises of files of pairs."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from react_ray import schema
from react_ray.errors import ConfigError, StorageError
from react_ray.pair_id import part_of, row_of
from react_ray.pairs.source import IngestConfig, open_source, to_images, to_pairs


def webp(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (value, value, value)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def rows(start: int, stop: int) -> pa.Table:
    return pa.table(
        {
            "image": [webp(i) for i in range(start, stop)],
            "caption": [f"drawing {i}" for i in range(start, stop)],
            "license": ["CC0-1.0"] * (stop - start),
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """25 rows in two files of row groups of 4."""
    pq.write_table(rows(0, 10), tmp_path / "a.parquet", row_group_size=4)
    pq.write_table(rows(10, 25), tmp_path / "b.parquet", row_group_size=4)
    return tmp_path


@pytest.mark.parametrize("rows_per_part", [1, 3, 4, 7, 10, 25, 100])
def test_parts_cover_every_row_once_and_in_order(folder: Path, rows_per_part: int) -> None:
    source = open_source(IngestConfig(source=str(folder), rows_per_part=rows_per_part))
    assert source.num_rows == 25 and source.columns == ["image", "caption", "license"]
    tables = [source.read(part.part) for part in source.parts]
    assert [len(t) for t in tables] == [part.num_rows for part in source.parts]
    assert pa.concat_tables(tables) == pa.concat_tables([rows(0, 10), rows(10, 25)])


def test_a_source_that_was_pickled_reads_the_same(folder: Path) -> None:
    source = open_source(IngestConfig(source=str(folder), rows_per_part=7))
    assert pickle.loads(pickle.dumps(source)).read(1) == source.read(1)


def test_max_rows_keeps_the_first_rows(folder: Path) -> None:
    source = open_source(IngestConfig(source=str(folder), rows_per_part=8, max_rows=11))
    assert [(p.part, p.row_start, p.num_rows) for p in source.parts] == [(0, 0, 8), (1, 8, 3)]
    assert source.read(1)["caption"].to_pylist() == ["drawing 8", "drawing 9", "drawing 10"]


@pytest.mark.parametrize("rows_per_part", [1, 3, 4, 7, 10, 25, 100])
def test_files_that_are_added_behind_leave_all_parts_as_they_were(folder: Path, rows_per_part: int) -> None:
    config = IngestConfig(source=str(folder), rows_per_part=rows_per_part)
    before = open_source(config)
    whole = [before.read(part.part) for part in before.parts]
    for name, start, stop in (("c.parquet", 25, 33), ("d.parquet", 33, 46)):
        pq.write_table(rows(start, stop), folder / name, row_group_size=5)
        source = open_source(config, before.ends)
        assert source.parts[: len(before.parts)] == before.parts
        assert source.files_before(before.num_rows) == before.files_before(before.num_rows)
        tables = [source.read(part.part) for part in source.parts]
        assert tables[: len(whole)] == whole and source.ends == (*before.ends, stop)
        assert pa.concat_tables(tables) == pa.concat_tables([rows(0, 10), rows(10, 25), rows(25, stop)])
        assert open_source(config, source.ends).parts == source.parts
        before, whole = source, tables


def test_files_that_are_not_the_same_as_before_are_told(folder: Path) -> None:
    config = IngestConfig(source=str(folder), rows_per_part=7)
    known = open_source(config).files_before(25)
    pq.write_table(rows(0, 9), folder / "c.parquet")
    assert open_source(config).files_before(25) == known
    (folder / "b.parquet").rename(folder / "d.parquet")
    assert open_source(config).files_before(25) != known
    (folder / "d.parquet").rename(folder / "b.parquet")
    pq.write_table(rows(10, 26), folder / "b.parquet")
    assert open_source(config).files_before(25) != known


def test_no_more_than_max_rows_are_ever_added(folder: Path) -> None:
    config = IngestConfig(source=str(folder), rows_per_part=8, max_rows=30)
    before = open_source(config)
    pq.write_table(rows(25, 45), folder / "c.parquet", row_group_size=4)
    source = open_source(config, before.ends)
    assert source.ends == (25, 30) and [part.num_rows for part in source.parts] == [8, 8, 8, 1, 5]
    pq.write_table(rows(25, 45), folder / "d.parquet")
    assert open_source(config, source.ends) == source


def test_pairs_carry_ids_and_the_extra_columns(folder: Path) -> None:
    config = IngestConfig(source=str(folder), rows_per_part=10)
    pairs = to_pairs(open_source(config).read(2), 2, config)
    assert pairs.column_names == [*schema.PAIRS.names, "license"]
    assert pairs.select(schema.PAIRS.names).schema.types == schema.PAIRS.types
    ids = pairs["pair_id"].to_numpy()
    assert set(part_of(ids)) == {2} and list(row_of(ids)) == list(range(5))
    assert pairs["url"].null_count == 5


def test_a_list_of_captions_is_kept_and_its_first_is_the_caption(tmp_path: Path) -> None:
    captions = pa.array([["heron", "bird"], [], None, [None, "x"]], pa.list_(pa.string()))
    table = pa.table({"image": [webp(i) for i in range(4)], "texts": captions, "score": [1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "x.parquet")
    config = IngestConfig(source=str(tmp_path / "x.parquet"), caption_column="texts")
    pairs = to_pairs(open_source(config).read(0), 0, config)
    assert pairs["caption"].to_pylist() == ["heron", "", "", ""]
    assert pairs["captions"].to_pylist() == captions.to_pylist()
    assert pairs.column_names == ["pair_id", "url", "caption", "captions", "source_score"]


def test_images_keep_good_bytes_and_give_bad_ones_a_status(tmp_path: Path) -> None:
    good = webp(7)
    images = pa.array([good, good[:-9], None, b"not an image"], pa.binary())
    pq.write_table(pa.table({"image": images, "caption": list("abcd")}), tmp_path / "x.parquet")
    config = IngestConfig(source=str(tmp_path / "x.parquet"), max_unusable=1)
    got = to_images(open_source(config).read(0), 0, config)
    assert got.schema == schema.IMAGES
    assert got["status"].to_pylist() == [schema.OK, schema.UNDECODABLE, schema.EMPTY, schema.UNDECODABLE]
    assert got["image"].to_pylist() == [good, None, None, None]
    assert got["width"].to_pylist() == got["original_width"].to_pylist() == [6, None, None, None]
    assert got["caption"].to_pylist() == list("abcd")
    assert got["phash"].type == pa.uint64() and got["phash"].null_count == 3
    assert got == to_images(open_source(config).read(0), 0, config, num_threads=3)


def test_images_inside_a_struct_are_found(tmp_path: Path) -> None:
    images = pa.array([{"bytes": webp(1), "path": "1.webp"}])
    pq.write_table(pa.table({"image": images, "caption": ["one"]}), tmp_path / "x.parquet")
    config = IngestConfig(source=str(tmp_path))
    got = to_images(open_source(config).read(0), 0, config)
    assert got["image"].to_pylist() == [webp(1)]


def test_a_source_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "none", tmp_path / "none.parquet"):
        with pytest.raises(StorageError, match="check ingest"):
            open_source(IngestConfig(source=str(missing)))


def test_a_missing_column_is_answered_with_those_that_exist(folder: Path) -> None:
    for wrong in ({"image_column": "img"}, {"caption_column": "txt"}, {"url_column": "url"}):
        with pytest.raises(ConfigError, match="image, caption, license"):
            open_source(IngestConfig(source=str(folder), **wrong))
    with pytest.raises(ConfigError, match="not image bytes"):
        open_source(IngestConfig(source=str(folder), image_column="license"))
    with pytest.raises(ConfigError, match="not text"):
        open_source(IngestConfig(source=str(folder), caption_column="image"))


def test_an_empty_pool_and_a_file_without_the_images_of_others_are_refused(tmp_path: Path) -> None:
    pq.write_table(rows(0, 1).slice(0, 0), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="pool is empty"):
        open_source(IngestConfig(source=str(tmp_path)))
    pq.write_table(rows(0, 1), tmp_path / "b.parquet")
    pq.write_table(rows(0, 1).drop_columns(["image"]), tmp_path / "c.parquet")
    with pytest.raises(ConfigError, match=r"c\.parquet lacks the column 'image'"):
        open_source(IngestConfig(source=str(tmp_path)))


def test_the_sample_pool_is_whole() -> None:
    config = IngestConfig(source="sample://pool.parquet")
    source = open_source(config)
    assert source.num_rows == 32_039 and len(source.parts) == 16
    images = to_images(source.read(15), 15, config)
    assert images["status"].unique().to_pylist() == [schema.OK]
    assert set(np.unique(images["width"].to_numpy())) == {64}


def test_a_column_of_the_usual_name_that_holds_no_bytes_is_named_with_its_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["aGVyb24="], "caption": ["a heron"]}), tmp_path / "x.parquet")
    with pytest.raises(ConfigError, match=r"image is string, which holds neither; write encoded images as binary"):
        open_source(IngestConfig(source=str(tmp_path / "x.parquet")))
