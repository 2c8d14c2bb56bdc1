"""Labels that are integers become captions by their names: of Hugging Face's ClassLabel, and of a list beside tars."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.errors import ConfigError
from react_ray.pairs.source import IngestConfig, Source, open_source, to_pairs
from tests.support.field.containers import drawing

NAMES = ["heron", "owl", "fox"]
LABELS = [2, 0, None, 1, -1, 7]
CAPTIONS = ["fox", "heron", "", "owl", "", ""]


def table(names: list[str] | None, labels: list[int | None], column: str = "label") -> pa.Table:
    made = pa.table({"image": [drawing(1)] * len(labels), column: pa.array(labels, pa.int64())})
    if names is None:
        return made
    feature = {column: {"names": names, "_type": "ClassLabel"}}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})


def captions(source: Source) -> list[str]:
    return [
        caption
        for part in range(len(source.parts))
        for caption in to_pairs(source.read(part), part, source.config)["caption"].to_pylist()
    ]


def opened(source: Path, **values: Any) -> Source:
    return open_source(IngestConfig(source=str(source), rows_per_part=4, **values))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_integers_with_names_are_captions(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(table(NAMES, LABELS), path, row_group_size=2)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table(NAMES, LABELS).schema) as writer:
            writer.write_table(table(NAMES, LABELS), max_chunksize=2)
    source = opened(path, caption_column="label")
    assert captions(source) == CAPTIONS
    assert "the integers of label are read as the names of their classes, as 'heron'" in source.summary()


def test_integers_that_are_no_captions_stay_integers(tmp_path: Path) -> None:
    made = table(NAMES, LABELS).append_column("caption", pa.array(list("abcdef")))
    pq.write_table(made, tmp_path / "a.parquet")
    source = opened(tmp_path / "a.parquet")
    assert captions(source) == list("abcdef") and source.read(0)["label"].to_pylist() == LABELS[:4]


def test_files_have_the_same_names_or_are_refused(tmp_path: Path) -> None:
    pq.write_table(table(NAMES, [0, 1]), tmp_path / "a.parquet")
    pq.write_table(table(NAMES, [2, 0]), tmp_path / "b.parquet")
    assert captions(opened(tmp_path, caption_column="label")) == ["heron", "owl", "fox", "heron"]
    pq.write_table(table(NAMES[::-1], [2, 0]), tmp_path / "b.parquet")
    with pytest.raises(ConfigError, match=r"integers of column 'label' have other names in .*a.parquet than in .*b.pa"):
        opened(tmp_path, caption_column="label")
    pq.write_table(table(None, [2, 0]), tmp_path / "b.parquet")
    with pytest.raises(ConfigError, match=r"column 'label' is string in .* and int64 in"):
        opened(tmp_path, caption_column="label")


def write_tar(path: Path, **members: list[str]) -> None:
    with tarfile.open(path, "w") as file:
        for number in range(3):
            texts = {suffix: some[number].encode() for suffix, some in members.items()}
            for suffix, data in ({"jpg": drawing(number)} | texts).items():
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("name", ["classes.txt", "classnames.txt", "__classnames.txt"])
def test_integers_in_tars_mean_the_lines_of_a_list_beside(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / "a.tar", cls=["2", "0\n", "9"])
    source = opened(tmp_path / "a.tar")
    assert captions(source) == ["2", "0", "9"]
    assert any("3 (a.tar: 0, a.tar: 1, a.tar: 2)" in line and "classes.txt" in line for line in source.summary())
    (tmp_path / name).write_text("heron\nowl\nfox\n")
    source = opened(tmp_path / "a.tar")
    assert captions(source) == ["fox", "heron", "9"]
    assert any(f"mean the names in {tmp_path}/{name}" in line for line in source.summary())


def test_identifiers_in_tars_have_names_and_texts_go_before_labels(tmp_path: Path) -> None:
    (tmp_path / "synset_words.txt").write_text("n01 heron, wader\nn02 owl\n")
    write_tar(tmp_path / "a.tar", cls=["n02", "n01", "owl"])
    assert captions(opened(tmp_path / "a.tar")) == ["owl", "heron", "owl"]
    write_tar(tmp_path / "a.tar", cls=["1", "0", "1"], txt=["a", "b", "c"])
    source = opened(tmp_path / "a.tar")
    assert captions(source) == ["a", "b", "c"] and not any("integers" in line for line in source.summary())
