"""Columns that only the names of folders hold are columns of the source."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.errors import ConfigError
from react_ray.pairs.ingest_config import IngestConfig
from react_ray.pairs.partitions import partition_of
from react_ray.pairs.source import open_source, to_pairs
from tests.support.field.containers import drawing


def test_partitions_become_columns_and_the_files_own_columns_come_first(tmp_path: Path) -> None:
    for language, number in (("en", 0), ("de", 1), ("__HIVE_DEFAULT_PARTITION__", 2)):
        folder = tmp_path / f"lang={language}" / "my%20set=x%2Fy"
        folder.mkdir(parents=True)
        columns = {"url": [f"http://a/{number}.jpg"], "caption": ["c"]} | ({"lang": ["own"]} if number == 1 else {})
        pq.write_table(pa.table(columns), folder / "0.parquet")
    source = open_source(IngestConfig(source=str(tmp_path), rows_per_part=2))
    pairs = pa.concat_tables([to_pairs(source.read(part), part, source.config) for part in range(len(source.parts))])
    rows = {row["url"][-5]: (row["lang"], row["my set"]) for row in pairs.to_pylist()}
    assert rows == {"0": ("en", "x/y"), "1": ("own", "x/y"), "2": (None, "x/y")}


def test_only_folders_below_the_source_count() -> None:
    assert partition_of("s3://b/lang=en/x.parquet", "s3://b/lang=en") == {}
    assert partition_of("s3://b/lang=en/x.parquet", "s3://b/lang=en/x.parquet") == {}
    assert partition_of("s3://b/t/lang=en/a=b=c/x.parquet", "s3://b/t/lang=*/*/x.parquet") == {"lang": "en", "a": "b=c"}


@pytest.mark.parametrize("texts", ["captions.txt", "annotations/captions_val2017.json"])
def test_captions_that_no_image_is_named_by_are_not_lost_to_the_name_of_the_only_folder(
    tmp_path: Path, texts: str
) -> None:
    (tmp_path / "Images").mkdir()
    for number in range(3):
        (tmp_path / "Images" / f"{number}.jpg").write_bytes(drawing(number))
    (tmp_path / "README.txt").write_text("about this data set")
    assert open_source(IngestConfig(source=str(tmp_path))).num_rows == 3
    (tmp_path / texts).parent.mkdir(exist_ok=True)
    (tmp_path / texts).write_text("image,caption\n0.jpg,a heron\n")
    with pytest.raises(ConfigError, match=r"would have the name of their folder 'Images' .*captions.*metadata.csv"):
        open_source(IngestConfig(source=str(tmp_path)))
