"""What react_ray.pairs.source promises of tars and of folders that hold their images."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from react_ray import schema
from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.source import IngestConfig, open_source, to_images, to_pairs
from react_ray.storage import Storage, join

SUFFIXES = ("jpg", "jpeg", "png", "webp")
FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}


def drawing(number: int, kind: str = "jpg") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20 + number, 10), (number * 9, 90, 30)).save(buffer, FORMATS[kind])
    return buffer.getvalue()


def tar(files: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def shard(start: int, stop: int) -> dict[str, bytes]:
    """As img2dataset writes it: 000000007.jpg, .json, .txt."""
    files = {}
    for i in range(start, stop):
        about = {
            "url": f"http://a/{i}",
            "caption": f"drawing {i}",
            "key": f"{i:09d}",
            "status": "success",
            "width": 20 + i,
        }
        files[f"{i:09d}.{SUFFIXES[i % 4]}"] = drawing(i, SUFFIXES[i % 4])
        files[f"{i:09d}.json"] = json.dumps(about).encode()
        files[f"{i:09d}.txt"] = f"drawing {i}".encode()
    return files


def read_all(config: IngestConfig) -> tuple[pa.Table, pa.Table]:
    """pairs and images of all parts."""
    source = pickle.loads(pickle.dumps(open_source(config)))
    assert source.has_images
    tables = [source.read(part.part) for part in source.parts]
    assert [len(table) for table in tables] == [part.num_rows for part in source.parts]
    pairs = pa.concat_tables([to_pairs(table, part, config) for part, table in enumerate(tables)])
    images = pa.concat_tables([to_images(table, part, config) for part, table in enumerate(tables)])
    assert pairs["pair_id"] == images["pair_id"] and pairs["caption"] == images["caption"]
    return pairs, images


@pytest.mark.parametrize("rows_per_part", [1, 4, 11, 100])
def test_tars_of_img2dataset_are_read_whatever_lies_beside_them(place: Storage, rows_per_part: int) -> None:
    place.write("00000.tar", tar(shard(0, 4)))
    place.write("00001.tar", tar(shard(4, 11)))
    place.write("00000.parquet", b"its metadata")
    place.write("00000_stats.json", b"{}")
    pairs, images = read_all(IngestConfig(source=place.uri, rows_per_part=rows_per_part))
    assert pairs.column_names == [*schema.PAIRS.names, "key", "status", "width"]
    assert pairs["url"].to_pylist() == [f"http://a/{i}" for i in range(11)]
    assert pairs["caption"].to_pylist() == [f"drawing {i}" for i in range(11)]
    assert pairs["key"].to_pylist() == [f"{i:09d}" for i in range(11)]
    assert pairs["width"].to_pylist() == [str(20 + i) for i in range(11)]
    assert images["image"].to_pylist() == [drawing(i, SUFFIXES[i % 4]) for i in range(11)]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz"])
def test_a_gzipped_tar_is_the_same_tar(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar").write_bytes(tar(shard(0, 9)))
    (tmp_path / name).write_bytes(gzip.compress(tar(shard(0, 9))))
    plain, packed = (read_all(IngestConfig(source=str(tmp_path / n), rows_per_part=4)) for n in ("a.tar", name))
    assert plain == packed


def test_a_bad_sample_of_a_tar_keeps_its_place(tmp_path: Path) -> None:
    files = shard(0, 7)
    del files["000000001.txt"], files["000000001.json"]
    files["000000002.json"] = b'{"url": "http://a/2", '
    files["000000003.webp"] = files["000000003.webp"][:-9]
    files["000000004.jpg"] = files["000000004.jpg"][:-99]
    del files["000000005.txt"], files["000000005.jpeg"]
    files["000000006.txt"] = b"\xff " + b"x" * 100_000
    (tmp_path / "a.tar").write_bytes(tar(files))
    pairs, images = read_all(IngestConfig(source=str(tmp_path / "*.tar"), rows_per_part=3, max_unusable=0.2))
    assert pairs["caption"].to_pylist() == [
        "drawing 0",
        "",
        *(f"drawing {i}" for i in range(2, 6)),
        "\ufffd " + "x" * 100_000,
    ]
    assert pairs["url"].to_pylist() == ["http://a/0", None, None, *(f"http://a/{i}" for i in range(3, 7))]
    ok, cut = schema.OK, schema.UNDECODABLE
    assert images["status"].to_pylist() == [ok, ok, ok, cut, cut, schema.EMPTY, ok]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_in_folders_long_names_and_notes_of_a_mac_are_understood(tmp_path: Path, format: int) -> None:
    long = "d" * 90 + "/" + "k" * (60 if format == tarfile.USTAR_FORMAT else 200)
    files = {"./x/1.JPG": drawing(1), "./x/1.txt": b"one", "./x/._1.jpg": b"mac", f"{long}.png": drawing(2, "png")}
    files |= {f"{long}.txt": "zwei ü".encode(), f"{long}.cls": b"7", "x/1.seg.png": b"", "x/1.txt": b"another one"}
    (tmp_path / "a.tar").write_bytes(tar(files, format))
    pairs, images = read_all(IngestConfig(source=str(tmp_path), rows_per_part=1))
    assert pairs["key"].to_pylist() == ["./x/1", long, "x/1"]
    assert pairs["caption"].to_pylist() == ["one", "zwei ü", "another one"]
    assert images["image"].to_pylist() == [drawing(1), drawing(2, "png"), None]


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_tar_is_a_storage_error_and_not_a_shorter_one(tmp_path: Path, damage: str) -> None:
    data = tar(shard(0, 7))
    middle = len(data) // 2 // 512 * 512
    (tmp_path / "a.tar").write_bytes(
        data[: middle + 100] if damage == "cut" else data[:middle] + b"?" * 5000 + data[middle + 5000 :]
    )
    with pytest.raises(StorageError, match=r"cannot read .*a.tar: .*write it again"):
        open_source(IngestConfig(source=str(tmp_path)))


def folder_of(place: Storage, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        place.write(name, data)
    return place.uri


IMAGES = {f"{i:02d}.{SUFFIXES[i % 4]}": drawing(i, SUFFIXES[i % 4]) for i in range(7)}


@pytest.mark.parametrize("rows_per_part", [1, 3, 100])
def test_a_text_beside_each_image_is_its_caption(place: Storage, rows_per_part: int) -> None:
    texts = {f"{i:02d}.txt": f" drawing {i}\n".encode() for i in range(6)}
    uri = folder_of(place, {**IMAGES, **texts, ".DS_Store": b"", "00.json": b"{}"})
    pairs, images = read_all(IngestConfig(source=uri, rows_per_part=rows_per_part))
    assert pairs["caption"].to_pylist() == [*(f"drawing {i}" for i in range(6)), ""]
    assert pairs["file_name"].to_pylist() == list(IMAGES) and images["image"].to_pylist() == list(IMAGES.values())


def test_without_texts_the_caption_is_the_folder(place: Storage) -> None:
    uri = folder_of(
        place, {f"train/{'owl' if i < 3 else 'heron'}/{name}": data for i, (name, data) in enumerate(IMAGES.items())}
    )
    pairs, images = read_all(IngestConfig(source=uri, rows_per_part=3))
    assert pairs["caption"].to_pylist() == ["heron"] * 4 + ["owl"] * 3
    assert set(images["status"].to_pylist()) == {schema.OK}
    owls, _ = read_all(IngestConfig(source=join(uri, "*/owl/*")))
    assert owls["caption"].to_pylist() == ["owl"] * 3


METADATA = [{"file_name": name, "caption": f"drawing {i}, a bird", "n": str(i)} for i, name in enumerate(IMAGES)]


def as_jsonl(rows: list[dict[str, str]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_csv(rows: list[dict[str, str]], names: str = "file_name,caption,n") -> bytes:
    return "\n".join([names, *(f'{r["file_name"]},"{r["caption"]}",{r["n"]}' for r in rows)]).encode()


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("metadata.jsonl", as_jsonl(METADATA)),
        ("metadata.csv", as_csv(METADATA)),
        ("captions.csv", as_csv(METADATA, "image,caption,n")),
        ("labels.csv", as_csv(METADATA, "filepath,text,n")),
    ],
)
def test_a_table_beside_images_names_them(place: Storage, name: str, table: bytes) -> None:
    uri = folder_of(place, {**IMAGES, name: table, "unnamed.png": drawing(9, "png")})
    pairs, images = read_all(IngestConfig(source=uri, rows_per_part=3))
    assert pairs["caption"].to_pylist() == [row["caption"] for row in METADATA]
    assert pairs["n"].to_pylist() == [row["n"] for row in METADATA]
    assert images["image"].to_pylist() == list(IMAGES.values())
    assert [name for name in pairs.column_names if name.startswith("file")] == [
        "filepath" if name == "labels.csv" else "file_name"
    ]


def test_metadata_of_each_sub_folder_is_relative_to_it(place: Storage) -> None:
    files = {f"{split}/{name}": data for split in ("test", "train") for name, data in IMAGES.items()}
    uri = folder_of(place, {**files, **{f"{split}/metadata.jsonl": as_jsonl(METADATA) for split in ("test", "train")}})
    _, images = read_all(IngestConfig(source=uri, rows_per_part=5))
    assert images["image"].to_pylist() == 2 * list(IMAGES.values())


def test_a_file_that_is_not_there_is_an_empty_row_and_no_row_leads_out_of_the_folder(place: Storage) -> None:
    names = ["00.jpg", "gone.jpg", "../secret.jpg", "/etc/passwd", "\0", "x" * 300, "", "./sub/../00.jpg", "sub"]
    rows = [*({"file_name": name, "caption": "c"} for name in names), {"caption": "c"}]
    place.write("secret.jpg", drawing(1))
    uri = folder_of(place.at("in"), {"00.jpg": drawing(0), "sub/1.jpg": drawing(1), "metadata.jsonl": as_jsonl(rows)})
    _, images = read_all(IngestConfig(source=uri, rows_per_part=4, max_unusable=1))
    assert images["status"].to_pylist() == [schema.OK if i in (0, 7) else schema.EMPTY for i in range(10)]


def test_a_folder_that_could_be_meant_in_two_ways_says_so(tmp_path: Path) -> None:
    def refused(name: str, data: bytes, match: str) -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConfigError, match=match):
            open_source(IngestConfig(source=str(tmp_path)))

    refused("1.jpg", drawing(1), r"images and no captions; add a \.txt")
    refused(
        "a.csv",
        b"name,caption\n1.jpg,one\n",
        "names none: it has name, caption; rename the column of file names to file_name",
    )
    refused(
        "a.csv",
        b"file,caption\none.jpg,one\n",
        r"none of the first 1 files of the column 'file' is there, such as one\.jpg; name",
    )
    refused("b.csv", b"file,caption\n1.jpg,one\n", r"several tables .*; keep one, or name it metadata\.csv")
    refused("a.tar", b"", r"holds csv, images, tar; say which is meant with ingest\.format")
    (tmp_path / "b.csv").rename(tmp_path / "metadata.csv")
    _, images = read_all(IngestConfig(source=str(tmp_path), format="images"))
    assert images["image"].to_pylist() == [drawing(1)]


def test_images_that_are_added_behind_the_others_are_parts_of_their_own(place: Storage) -> None:
    def put(numbers: range) -> None:
        for number in numbers:
            place.write(f"bird/{number:02d}.png", drawing(number, "png"))

    config = IngestConfig(source=place.uri, rows_per_part=4)
    put(range(10, 16))
    before = open_source(config)
    put(range(16, 21))
    source = open_source(config, before.ends)
    assert [part.num_rows for part in source.parts] == [4, 2, 4, 1]
    assert source.files_before(6) == before.files_before(6)
    names = [name for part in source.parts for name in source.read(part.part)["file_name"].to_pylist()]
    assert names == [f"bird/{number:02d}.png" for number in range(10, 21)]
    put(range(9, 10))
    assert open_source(config, before.ends).files_before(6) != before.files_before(6)
