"""What react_ray.pairs.formats.image_folder promises of folders of images of every kind."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from react_ray import schema
from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.formats.suffixes import IMAGE_SUFFIXES
from react_ray.pairs.image import FORMATS
from react_ray.pairs.source import IngestConfig, caption_statuses, open_source
from react_ray.storage import Storage
from tests.support.field.containers import drawing, ingested, tar
from tests.support.source_files import write

KINDS = {
    "avif": "avif",
    "ico": "ico",
    "jfif": "jpg",
    "jpe": "jpg",
    "dib": "dib",
    "apng": "png",
    "pjpeg": "jpg",
    "JPG": "jpg",
    "Png": "png",
    "TIF": "tif",
    "bmp": "bmp",
}


def folder_of(place: Storage, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        place.write(name, data)
    return place.uri


def captions(uri: str | Path, **fields: object) -> dict[str, str]:
    """Captions by file name; every image is decoded."""
    _, pairs, images = ingested(IngestConfig.model_validate({"source": str(uri), "rows_per_part": 3, **fields}))
    assert set(images["status"].to_pylist()) == {schema.OK}
    return dict(zip(pairs["file_name"].to_pylist(), pairs["caption"].to_pylist(), strict=True))


def said(uri: str | Path) -> str:
    return "\n".join(open_source(IngestConfig(source=str(uri), max_unusable=1)).summary())


def test_every_suffix_of_a_format_that_is_decoded_is_known() -> None:
    Image.init()
    known = {suffix[1:] for suffix, format in Image.registered_extensions().items() if format in FORMATS}
    assert known <= IMAGE_SUFFIXES


def test_every_kind_of_image_is_read(place: Storage) -> None:
    files = {f"{i:02d}.{suffix}": drawing(i, kind) for i, (suffix, kind) in enumerate(KINDS.items())}
    texts = {name.rpartition(".")[0] + ".txt": name.encode() for name in files}
    assert captions(folder_of(place, {**files, **texts})) == {name: name for name in files}


@pytest.mark.parametrize("suffix", ["avif", "jfif", "xyz", ""])
@pytest.mark.parametrize("with_texts", [True, False])
def test_a_folder_of_one_kind_alone_is_a_folder_of_images(tmp_path: Path, suffix: str, with_texts: bool) -> None:
    for i in range(4):
        (tmp_path / "owl").mkdir(exist_ok=True)
        path = tmp_path / "owl" / f"{i}.{suffix}".rstrip(".")
        path.write_bytes(drawing(i, "avif" if suffix == "avif" else "jpg"))
        if with_texts:
            path.with_name(f"{i}.txt").write_text(f"bird {i}")
    assert list(captions(tmp_path).values()) == ([f"bird {i}" for i in range(4)] if with_texts else ["owl"] * 4)


def test_captions_are_found_by_all_their_names(place: Storage) -> None:
    texts = {
        "a.txt": "a",
        "b.TXT": "b",
        "c.jpg.txt": "c",
        "d.caption": "d",
        "e.v2.txt": "e",
        "f.text": "f",
        "g.cap": "g",
    }
    files = {f"{name}.jpg": drawing(i) for i, name in enumerate(("a", "b", "c", "d", "e.v2", "f", "g"))}
    bom = {"h.jpg": drawing(8), "h.txt": b"\xef\xbb\xbfh \n", "i.jpg": drawing(9), "i.txt": "i ü".encode("utf-16")}
    uri = folder_of(place, {**files, **bom, **{name: text.encode() for name, text in texts.items()}})
    found = captions(uri)
    assert found == {name: name.partition(".")[0] for name in files} | {"h.jpg": "h", "i.jpg": "i ü"}
    place.write("j.jpg", drawing(10))
    place.write("j.json", b'{"caption": ["j", "J"], "n": 1}')
    _, pairs, _ = ingested(IngestConfig(source=uri, rows_per_part=3))
    assert pairs["caption"].to_pylist()[-1] == "j" and pairs["captions"].to_pylist()[-2:] == [["i ü"], ["j", "J"]]


def test_files_that_are_passed_over_are_counted_and_named(place: Storage) -> None:
    files = {"owl/1.jpg": drawing(1), "owl/_DSC02.jpg": drawing(2), "owl/readme": drawing(3), "owl/notes.md": b"# owls"}
    uri = folder_of(place, {**files, "owl/4.heic": b"-", "owl/5.csv2": b"-", ".git/HEAD": b"-", "owl/stray.txt": b"-"})
    assert captions(uri) == {"owl/1.jpg": "owl", "owl/_DSC02.jpg": "owl", "owl/readme": "owl"}
    assert "images of a kind that is not decoded: 1 (owl/4.heic)" in said(uri)
    assert "files that are no image and no caption: 3 (owl/5.csv2, owl/notes.md, owl/stray.txt)" in said(uri)
    assert "hidden files: 1 (.git/HEAD)" in said(uri) and "by their first bytes, such as owl/readme" in said(uri)


def test_texts_beside_what_is_not_decoded_are_no_list_of_urls(tmp_path: Path) -> None:
    for suffix in ("heic", "mp4"):
        (tmp_path / "1.txt").write_bytes(b"a bird")
        (tmp_path / f"1.{suffix}").write_bytes(b"\0\0\0\x1cftypheic")
        with pytest.raises(ConfigError, match=rf"1\.txt lies beside .*1\.{suffix}, which is of no kind that is read"):
            open_source(IngestConfig(source=str(tmp_path)))
        (tmp_path / f"1.{suffix}").unlink()


@pytest.mark.parametrize(
    "data", [drawing(1), drawing(1, "avif"), b"\x1f\x8b" + b"x" * 90, bytes(range(20)) * 9 + b"\0" * 90]
)
def test_bytes_that_are_no_text_are_never_a_list_of_urls(tmp_path: Path, data: bytes) -> None:
    for name in ("a.txt", "a.csv", "a.jsonl"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConfigError, match="is no text; name its format"):
            open_source(IngestConfig(source=str(tmp_path / name)))


def test_links_are_followed_and_those_that_lead_nowhere_are_counted(tmp_path: Path) -> None:
    root, other = tmp_path / "in", tmp_path / "elsewhere"
    (root / "heron").mkdir(parents=True)
    (other / "deep").mkdir(parents=True)
    (root / "heron/1.jpg").write_bytes(drawing(1))
    (other / "2.jpg").write_bytes(drawing(2))
    (other / "deep/3.jpg").write_bytes(drawing(3))
    (root / "owl").symlink_to("../elsewhere")
    (root / "wren").symlink_to(other / "deep", target_is_directory=True)
    (root / "heron/4.jpg").symlink_to(other / "2.jpg")
    (root / "heron/5.jpg").symlink_to("nowhere.jpg")
    (root / "heron/6.jpg").symlink_to("6.jpg")
    os.mkfifo(root / "heron/7.jpg")
    assert captions(root) == {
        "heron/1.jpg": "heron",
        "heron/4.jpg": "heron",
        "owl/2.jpg": "owl",
        "owl/deep/3.jpg": "deep",
        "wren/3.jpg": "wren",
    }
    assert list(captions(f"{root}/*/2.jpg")) == ["owl/2.jpg"]
    assert "links that lead nowhere, pipes, sockets and devices: 3 (heron/5.jpg, heron/6.jpg, heron/7.jpg)" in said(
        root
    )


@pytest.mark.parametrize("target", ["..", ".", "../b"])
def test_links_without_end_are_refused(tmp_path: Path, target: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(drawing(1))
    (tmp_path / "a/link").symlink_to(target)
    if target == "../b":
        (tmp_path / "b/link").symlink_to("../a")
    with pytest.raises(StorageError, match="is a link to a folder that holds it, and so has no end; remove the link"):
        open_source(IngestConfig(source=str(tmp_path)))


def test_paths_in_a_table_that_cannot_be_read_are_rows_with_a_status(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(drawing(1))
    (tmp_path / "empty.jpg").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as door:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path has at most 107 bytes
        door.bind("door.jpg")
        os.chdir(here)
    names = [
        "1.jpg",
        "pipe.jpg",
        "device.jpg",
        "door.jpg",
        "huge.jpg",
        "empty.jpg",
        "/".join(["x"] * 2500),
        "x" * 5000,
        ".",
    ]
    (tmp_path / "metadata.csv").write_text("file_name,caption\n" + "".join(f"{name},c\n" for name in names))
    with pytest.raises(ConfigError, match=r"8 of the 9 rows of .* cannot be used: rows whose file is not there: 6"):
        open_source(IngestConfig(source=str(tmp_path)))
    _, _, images = ingested(IngestConfig(source=str(tmp_path), rows_per_part=2, max_unusable=1))
    assert images["status"].to_pylist() == [schema.OK, *[schema.EMPTY] * 8]


def test_images_that_a_table_does_not_name_are_counted(place: Storage) -> None:
    files = {f"{i}.avif": drawing(i, "avif") for i in range(3)}
    uri = folder_of(place, {**files, "METADATA.CSV": b"file_name,caption\n0.avif,a\n1.avif,b\n", "notes.md": b"-"})
    assert captions(uri) == {"0.avif": "a", "1.avif": "b"}
    assert "images that METADATA.CSV does not name: 1 (2.avif)" in said(uri)
    assert "files that are not read as images: 1 (notes.md)" in said(uri)


def test_names_that_are_no_text_are_read(tmp_path: Path) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    with open(os.path.join(folder, b"\xe8.jpg"), "wb") as file:
        file.write(drawing(1))
    assert captions(tmp_path) == {"caf\\xe9/\\xe8.jpg": "caf\\xe9"}


def test_files_beside_tars_are_counted_and_capitals_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "A.TAR").write_bytes(tar([("1.jpg", drawing(1)), ("1.txt", b"one")]))
    (tmp_path / "A.parquet").write_bytes(b"-")
    (tmp_path / "_SUCCESS").write_bytes(b"")
    source, pairs, _ = ingested(IngestConfig(source=str(tmp_path)))
    assert pairs["caption"].to_pylist() == ["one"]
    assert "passed over: files that are not read as tar: 1 (A.parquet)" in source.summary()


def test_captions_have_any_encoding_and_others_are_told(place: Storage) -> None:
    texts = ["café".encode(kind) for kind in ("cp1252", "utf-8-sig", "utf-16", "utf-16-le")]
    uri = folder_of(
        place,
        {f"{i}.jpg": drawing(i) for i in range(4)} | {f"{i}.txt": text for i, text in enumerate(texts)},
    )
    assert list(captions(uri).values()) == ["caf\ufffd", *["café"] * 3]
    _, pairs, _ = ingested(IngestConfig(source=uri))
    assert caption_statuses(pairs["caption"]) == {"replaced_characters": 1}
    assert captions(uri, encoding="cp1252")["0.jpg"] == "café"


@pytest.mark.parametrize("blank", [b"", b"\r\n", b"\xef\xbb\xbf"])
def test_a_blank_text_leaves_the_caption_to_the_json(place: Storage, blank: bytes) -> None:
    uri = folder_of(place, {"1.jpg": drawing(1), "1.txt": blank, "1.json": b'{"caption": "a bird"}'})
    assert captions(uri) == {"1.jpg": "a bird"}


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_table_whose_images_are_paths_is_read_beside_them(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "pics").mkdir()
    for i in range(3):
        (tmp_path / f"pics/{i}.jpg").write_bytes(drawing(i))
    (tmp_path / "info.json").write_text("{}")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": None, "path": f"pics/{i}.jpg"} for i in range(3)], kind)
    table = pa.table({"image": cells, "caption": [f"bird {i}" for i in range(3)]})
    if suffix == "parquet":
        pq.write_table(table, tmp_path / "train.parquet")
    else:
        with pa.ipc.new_file(tmp_path / "train.arrow", table.schema) as writer:
            writer.write_table(table)
    source, pairs, images = ingested(IngestConfig(source=str(tmp_path)))
    assert pairs["caption"].to_pylist() == [f"bird {i}" for i in range(3)]
    assert images["width"].to_pylist() == [20, 21, 22]
    assert source.summary()[1:] == [
        f"the images are those that the {suffix} files name: 3 files of images",
        f"passed over: files that are not read as {suffix}: 1 (info.json)",
    ]


def test_a_table_of_bytes_beside_images_is_refused_until_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(drawing(0))
    pq.write_table(pa.table({"image": [drawing(1)], "caption": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"holds images, parquet; say which is meant"):
        open_source(IngestConfig(source=str(tmp_path)))


def test_what_img2dataset_writes_as_files_is_a_folder_of_images(tmp_path: Path) -> None:
    for shard in range(2):
        files = {f"{shard}{i}.jpg": drawing(i) for i in range(2)}
        files |= {f"{shard}{i}.txt": f"bird {i}".encode() for i in range(2)}
        files |= {
            f"{shard}{i}.json": json.dumps({"caption": f"bird {i}", "url": "http://a"}).encode() for i in range(2)
        }
        for name, data in files.items():
            write(tmp_path / f"0000{shard}", name, data)
        write(tmp_path, f"0000{shard}.parquet", b"PAR1")
        write(tmp_path, f"0000{shard}_stats.json", b"{}")
    source, pairs, _ = ingested(IngestConfig(source=str(tmp_path)))
    assert pairs["caption"].to_pylist() == ["bird 0", "bird 1"] * 2
    assert any(line.startswith("the Parquet files beside the numbered folders") for line in source.summary())
    [passed] = [line for line in source.summary() if line.startswith("passed over")]
    assert "no image and no caption: 8 (" in passed and "00000.parquet" in passed
