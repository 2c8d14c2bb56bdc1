"""Exports are what img2dataset writes: its names, keys, columns and words, readable by its readers."""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from react_ray.artifact import Artifact
from react_ray.cli import main
from react_ray.draft import create
from react_ray.errors import ArtifactMissing, ConfigError
from react_ray.kinds import IMAGES
from react_ray.pairs.export.images import export
from react_ray.pairs.source import IngestConfig, open_source, to_images, to_pairs
from tests.support.downloaded import downloaded
from tests.support.web import Web

COLUMNS = [
    "url",
    "caption",
    "key",
    "status",
    "error_message",
    "width",
    "height",
    "original_width",
    "original_height",
    "sha256",
    "similarity",
]
NUM_ROWS = 28


@pytest.fixture(scope="module")
def images(web: Web, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    urls: list[str | None] = [f"{web.http}/image/{row}.jpg?side={40 + row}" for row in range(NUM_ROWS)]
    urls[3], urls[12], urls[13] = f"{web.http}/status/404", f"{web.http}/cut", None
    return downloaded(tmp_path_factory.mktemp("database"), urls)


def stored(images: Artifact) -> list[dict]:
    return pa.concat_tables(images.tables()).to_pylist()


def test_tars_hold_each_image_with_its_caption_and_its_metadata(images: Artifact, tmp_path: Path) -> None:
    said = export("webdataset", images.uri, str(tmp_path / "out"), rows_per_shard=10)
    assert said.endswith("25 images of 28 rows in 3 shards of webdataset")
    names = [f"0000{shard}{suffix}" for shard in range(3) for suffix in (".parquet", ".tar", "_stats.json")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    found: dict[str, dict[str, bytes]] = {}
    for shard in range(3):
        with tarfile.open(tmp_path / f"out/0000{shard}.tar") as archive:
            for member in archive:
                key, _, suffix = member.name.partition(".")
                file = archive.extractfile(member)
                assert file is not None
                found.setdefault(key, {})[suffix] = file.read()
    rows = stored(images)
    expected = {f"{row // 10:05d}{row % 10:01d}": row for row in range(NUM_ROWS) if rows[row]["status"] == "ok"}
    assert list(found) == list(expected)
    for key, row in expected.items():
        assert list(found[key]) == ["jpg", "txt", "json"]
        assert found[key]["jpg"] == rows[row]["image"]
        assert found[key]["txt"].decode() == rows[row]["caption"]
        meta = json.loads(found[key]["json"])
        assert list(meta) == COLUMNS and meta["key"] == key and meta["status"] == "success"
        assert meta["url"].endswith(f"/image/{row}.jpg?side={40 + row}") and meta["sha256"] == rows[row]["sha256"]
        assert (meta["width"], meta["original_width"], meta["similarity"]) == (32, 40 + row, row % 8 / 100)


def test_the_table_beside_a_tar_has_every_row_with_img2datasets_columns_and_words(
    images: Artifact, tmp_path: Path
) -> None:
    export("webdataset", images.uri, str(tmp_path), rows_per_shard=20)
    tables = [pq.read_table(tmp_path / f"0000{shard}.parquet") for shard in range(2)]
    assert [table.column_names for table in tables] == [COLUMNS] * 2 and [len(table) for table in tables] == [20, 8]
    rows = tables[0].to_pylist()
    assert [row["key"] for row in rows] == [f"00000{row:02d}" for row in range(20)]
    assert {row: (rows[row]["status"], rows[row]["error_message"].partition(":")[0]) for row in (3, 12, 13)} == {
        3: ("failed_to_download", "http_404"),
        12: ("failed_to_resize", "undecodable"),
        13: ("failed_to_download", "no_url"),
    }
    stats = json.loads((tmp_path / "00000_stats.json").read_text())
    assert {name: stats[name] for name in ("count", "successes", "failed_to_download", "failed_to_resize")} == {
        "count": 20,
        "successes": 17,
        "failed_to_download": 2,
        "failed_to_resize": 1,
    }
    assert stats["status_dict"] == {"success": 17, "http_404": 1, "undecodable": 1, "no_url": 1}
    assert stats["duration"] == stats["end_time"] - stats["start_time"]


def test_keys_have_four_digits_of_the_row_by_default(images: Artifact, tmp_path: Path) -> None:
    export("webdataset", images.uri, str(tmp_path))
    with tarfile.open(tmp_path / "00000.tar") as archive:
        assert archive.getnames()[:4] == ["000000000.jpg", "000000000.txt", "000000000.json", "000000001.jpg"]


def test_files_are_those_of_the_tar_in_a_folder(images: Artifact, tmp_path: Path) -> None:
    export("webdataset", images.uri, str(tmp_path / "tars"), 20)
    export("files", images.uri, str(tmp_path / "files"), 20)
    for shard in ("00000", "00001"):
        with tarfile.open(tmp_path / f"tars/{shard}.tar") as archive:
            there = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
        assert {path.name: path.read_bytes() for path in (tmp_path / "files" / shard).iterdir()} == there
        assert (tmp_path / f"files/{shard}.parquet").read_bytes() == (tmp_path / f"tars/{shard}.parquet").read_bytes()


def test_parquet_has_the_images_in_a_column_named_for_their_format(images: Artifact, tmp_path: Path) -> None:
    export("parquet", images.uri, str(tmp_path), 100)
    table = pq.read_table(tmp_path / "00000.parquet")
    assert table.column_names == [*COLUMNS, "jpg"]
    assert table["jpg"].to_pylist() == [row["image"] for row in stored(images)]


def test_webdatasets_reader_decodes_every_sample(images: Artifact, tmp_path: Path) -> None:
    import webdataset

    export("webdataset", images.uri, str(tmp_path), 10)
    shards = str(tmp_path / "{00000..00002}.tar")
    samples = list(
        webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("jpg;png;webp", "txt", "json")
    )
    rows = [row for row in stored(images) if row["status"] == "ok"]
    assert [(picture.size, caption, meta["sha256"]) for picture, caption, meta in samples] == [
        ((row["width"], row["height"]), row["caption"], row["sha256"]) for row in rows
    ]


def test_open_clips_own_reader_gives_every_image_and_caption(images: Artifact, tmp_path: Path) -> None:
    import numpy as np
    from open_clip_train.data import get_wds_dataset

    export("webdataset", images.uri, str(tmp_path), 20)
    args = argparse.Namespace(
        val_data=str(tmp_path / "{00000..00001}.tar"), val_num_samples=25, batch_size=8, workers=0, world_size=1
    )
    data = get_wds_dataset(args, np.asarray, is_train=False, tokenizer=lambda text: [text])
    read = [pair for images_B, captions_B in data.dataloader for pair in zip(images_B, captions_B, strict=True)]
    rows = [row for row in stored(images) if row["status"] == "ok"]
    assert [caption for _, caption in read] == [row["caption"] for row in rows]
    for (pixels, _), row in zip(read, rows, strict=True):
        assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB")))


def test_an_export_can_be_ingested_again(images: Artifact, tmp_path: Path) -> None:
    export("webdataset", images.uri, str(tmp_path / "out"), 10)
    source = open_source(IngestConfig(source=str(tmp_path / "out" / "*.tar"), rows_per_part=100))
    table = source.read(0)
    kept = [row for row in stored(images) if row["status"] == "ok"]
    assert to_images(table, 0, source.config)["image"].to_pylist() == [row["image"] for row in kept]
    assert to_pairs(table, 0, source.config)["caption"].to_pylist() == [row["caption"] for row in kept]


def test_images_that_ingest_kept_have_the_suffix_of_their_format_and_no_url(tmp_path: Path) -> None:
    encoded = []
    for kind in ("png", "webp", "jpeg", "gif", "bmp", "tiff", "avif", "ico"):
        sink = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(sink, kind)
        encoded.append(sink.getvalue())
    kept = create(str(tmp_path / "images"), IMAGES, {}, {}, 1)
    table = pa.table({"image": encoded, "caption": [""] * len(encoded)})
    kept.commit(0, to_images(table, 0, IngestConfig(source="unused")), 0.0)
    export("webdataset", kept.seal().uri, str(tmp_path / "out"))
    with tarfile.open(tmp_path / "out/00000.tar") as archive:
        assert [name for name in archive.getnames() if "txt" not in name and "json" not in name] == [
            "000000000.png",
            "000000001.webp",
            "000000002.jpg",
            "000000003.gif",
            "000000004.bmp",
            "000000005.tif",
            "000000006.avif",
            "000000007.ico",
        ]
    assert pq.read_table(tmp_path / "out/00000.parquet")["url"].null_count == len(encoded)


def test_what_cannot_be_meant_is_refused_before_a_file_is_written(
    images: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "tfrecord", images.uri, str(tmp_path / "out")])
    assert ended.value.code == 2 and "name one of webdataset, parquet, files" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="at least 1"):
        export("files", images.uri, str(tmp_path / "out"), 0)
    with pytest.raises(ArtifactMissing):
        export("files", str(tmp_path), str(tmp_path / "out"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "00000.tar").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        export("files", images.uri, str(tmp_path / "full"))
    assert not (tmp_path / "out").exists()
