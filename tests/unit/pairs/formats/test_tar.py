"""What react_ray.pairs.formats.tar promises of tars that are not as img2dataset writes them."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from pathlib import Path

import pytest

from react_ray import schema
from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.source import IngestConfig, open_source
from react_ray.storage import Storage, join
from tests.support.field.containers import drawing, ingested, tar

Members = list[tuple[str, bytes]]


def pairs_of(count: int, image: str = "{:04d}.jpg", text: str = "{:04d}.txt") -> Members:
    """Image and caption of each sample, one after the other."""
    samples = [((image.format(i), drawing(i)), (text.format(i), f"bird {i}".encode())) for i in range(count)]
    return [member for sample in samples for member in sample]


def without_end(members: Members) -> bytes:
    data = tar(members)
    return data[: -(-len(data.rstrip(b"\0")) // 512) * 512]


def rows(path: Path | str, **fields: object) -> dict[str, tuple[object, object]]:
    """Caption and width by key, in order."""
    _, pairs, images = ingested(IngestConfig.model_validate({"source": str(path), "rows_per_part": 4, **fields}))
    values = zip(pairs["caption"].to_pylist(), images["width"].to_pylist(), strict=True)
    return dict(zip(pairs["key"].to_pylist(), values, strict=True))


def expected(count: int, key: str = "{:04d}") -> dict[str, tuple[object, object]]:
    return {key.format(i): (f"bird {i}", 20 + i) for i in range(count)}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize("rows_per_part", [1, 4, 100])
def test_members_of_a_sample_may_lie_anywhere(place: Storage, name: str, rows_per_part: int) -> None:
    by_kind = sorted(pairs_of(9), key=lambda member: member[0][-3:])
    shuffled = random.Random(3).sample(pairs_of(9), 18)
    interleaved = [*pairs_of(9)[:2], ("0001.txt", b"bird 1"), ("0002.jpg", drawing(2)), ("0001.jpg", drawing(1))]
    interleaved += [("0002.txt", b"bird 2"), *pairs_of(9)[6:]]
    for members in (by_kind, shuffled, interleaved):
        data = tar(members)
        place.write(name, gzip.compress(data) if name.endswith(".gz") else data)
        found = rows(join(place.uri, name), rows_per_part=rows_per_part)
        assert found == expected(9) and len(found) == 9
        order = list(dict.fromkeys(member.partition(".")[0] for member, _ in members))
        assert list(found) == order


def test_adjacent_samples_are_one_span_a_part(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(pairs_of(9)))
    source = open_source(IngestConfig(source=str(tmp_path), rows_per_part=4))
    assert [chunk.num_rows for chunk in source.chunks] == [4, 4, 1]
    assert not any(chunk.spans or chunk.names for chunk in source.chunks)
    starts = [chunk.start for chunk in source.chunks]
    assert starts[1:] == [chunk.start + chunk.num_bytes for chunk in source.chunks[:-1]]


@pytest.mark.parametrize("key", ["trail.v2.{:04d}", "d.e/img_0.{}", "a.b.c.{}", "www.site.org_{}"])
def test_keys_may_have_dots(tmp_path: Path, key: str) -> None:
    members = pairs_of(6, key + ".jpg", key + ".txt")
    (tmp_path / "a.tar").write_bytes(tar(members))
    assert rows(tmp_path) == expected(6, key)
    masks = [(name.replace(".jpg", ".seg.png"), drawing(9, "png")) for name, _ in members if name.endswith("jpg")]
    (tmp_path / "a.tar").write_bytes(tar([*members, *masks]))
    source, _, _ = ingested(IngestConfig(source=str(tmp_path), rows_per_part=4))
    assert rows(tmp_path) == expected(6, key)
    assert any("members with the suffix .seg.png, which no column takes: 6" in line for line in source.summary())


def test_a_sample_that_lacks_its_caption_is_not_paired_with_another(tmp_path: Path) -> None:
    members = pairs_of(40, "owl.{}.jpg", "owl.{}.txt")
    members = [member for member in members if member[0] not in ("owl.7.txt", "owl.8.jpg")]
    (tmp_path / "a.tar").write_bytes(tar([*members, ("owl.json", b'{"caption": "all owls"}')]))
    found = rows(tmp_path, max_unusable=0.1)
    assert found["owl.7"] == ("", 27) and found["owl.8"] == ("bird 8", None) and found["owl"] == ("all owls", None)
    assert len(found) == 41


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("{:04d}.input.jpg", "{:04d}.output.txt"),
        ("{:04d}.img", "{:04d}.cap"),
        ("{:04d}.input.jpg", "{:04d}.txt"),
        ("{:04d}.jpg", "{:04d}.en.txt"),
        ("{:04d}.JPG", "{:04d}.CAPTION"),
        ("{:04d}.bin", "{:04d}.text"),
        ("{:04d}", "{:04d}.txt"),
        ("{:04d}.jpg", "{:04d}.cls"),
    ],
)
def test_suffixes_of_images_and_captions_are_found(tmp_path: Path, image: str, text: str) -> None:
    (tmp_path / "a.tar").write_bytes(tar(pairs_of(6, image, text)))
    assert rows(tmp_path) == expected(6)


def test_several_images_are_refused_by_name_and_the_recipe_names_one(tmp_path: Path) -> None:
    members = []
    for i in range(4):
        members += [(f"{i:04d}.1.jpg", drawing(i)), (f"{i:04d}.2.jpg", drawing(i + 10))]
        members += [(f"{i:04d}.json", json.dumps({"caption": f"bird {i}"}).encode())]
    (tmp_path / "a.tar").write_bytes(tar(members))
    with pytest.raises(
        ConfigError, match=r"several images \(\.1\.jpg, \.2\.jpg\), of which ingest.image_column names none"
    ):
        open_source(IngestConfig(source=str(tmp_path)))
    assert rows(tmp_path, image_column="1.jpg") == expected(4)
    assert rows(tmp_path, image_column="2.jpg")["0003"] == ("bird 3", 33)


def test_the_recipe_names_suffixes_best_first(tmp_path: Path) -> None:
    members = [("a.jpg", drawing(1)), ("a.png", drawing(2, "png")), ("b.png", drawing(3, "png"))]
    members += [("a.alt", b"one"), ("a.txt", b"-"), ("b.alt", b"two"), ("b.json", b'{"caption": "-"}')]
    (tmp_path / "a.tar").write_bytes(tar(members))
    named = {"image_column": "jpg;png", "caption_column": "alt"}
    assert rows(tmp_path, **named) == {"a": ("one", 21), "b": ("two", 23)}
    with pytest.raises(ConfigError, match=r"samples without \.gif: 2"):
        open_source(IngestConfig(source=str(tmp_path), image_column="gif"))


@pytest.mark.parametrize("key", ["caption", "TEXT", "text"])
def test_captions_are_found_in_json(tmp_path: Path, key: str) -> None:
    members = [(f"{i:04d}.{kind}", data) for i in range(3) for kind, data in (("jpg", drawing(i)), ("json", b""))]
    members = [
        (name, json.dumps({key: f"bird {name[3]}", "n": 1}).encode() if name.endswith("json") else data)
        for name, data in members
    ]
    (tmp_path / "a.tar").write_bytes(tar(members))
    assert rows(tmp_path) == expected(3)


def test_a_list_of_captions_is_several_captions(tmp_path: Path) -> None:
    members = pairs_of(3)
    members += [("0001.json", b'{"caption": ["bird 1", "heron"]}'), ("0003.jpg", drawing(3))]
    members += [("0003.json", b'{"caption": ["bird 3", "owl"]}')]
    (tmp_path / "a.tar").write_bytes(tar(members))
    _, pairs, _ = ingested(IngestConfig(source=str(tmp_path), rows_per_part=2))
    assert pairs["caption"].to_pylist() == [f"bird {i}" for i in range(4)]
    assert pairs["captions"].to_pylist() == [["bird 0"], ["bird 1", "heron"], ["bird 2"], ["bird 3", "owl"]]


def test_a_key_of_json_may_come_late(tmp_path: Path) -> None:
    members = []
    for i in range(130):
        about = {"key": str(i)} | ({"url": f"http://a/{i}", "similarity": i} if i > 110 else {})
        members += [(f"{i:04d}.jpg", drawing(i)), (f"{i:04d}.json", json.dumps(about).encode())]
    (tmp_path / "a.tar").write_bytes(tar(members))
    _, pairs, _ = ingested(IngestConfig(source=str(tmp_path), rows_per_part=50))
    assert pairs["url"].to_pylist() == [f"http://a/{i}" if i > 110 else None for i in range(130)]
    assert pairs["similarity"].to_pylist()[110:113] == [None, "111", "112"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_concatenated_tars_are_read_to_the_end(place: Storage, name: str) -> None:
    data = b"".join(tar(pairs_of(9)[start : start + 6]) for start in (0, 6, 12))
    place.write(name, gzip.compress(data) if name.endswith(".gz") else data)
    assert rows(join(place.uri, name)) == expected(9)


def test_bytes_behind_the_end_are_said_and_members_behind_them_are_damage(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(pairs_of(3)) + b"signature" * 100)
    source, pairs, _ = ingested(IngestConfig(source=str(tmp_path)))
    assert len(pairs) == 3 and any("bytes behind the end of a tar: 900" in line for line in source.summary())
    (tmp_path / "a.tar").write_bytes(tar(pairs_of(3)) + b"?" * 1024 + tar(pairs_of(3)))
    with pytest.raises(StorageError, match="are no tar, and members follow; the file is damaged, write it again"):
        open_source(IngestConfig(source=str(tmp_path)))


def test_a_tar_without_end_mark_is_said_to_be_possibly_cut(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(without_end(pairs_of(3)))
    source, _, _ = ingested(IngestConfig(source=str(tmp_path)))
    assert len(rows(tmp_path)) == 3 and any("has no end mark of a tar" in line for line in source.summary())


def test_the_last_of_two_members_of_one_name_is_kept_and_counted(tmp_path: Path) -> None:
    members = [*pairs_of(3), ("0000.jpg", drawing(50)), ("0000.txt", b"corrected")]
    (tmp_path / "a.tar").write_bytes(tar(members))
    source, _, _ = ingested(IngestConfig(source=str(tmp_path)))
    assert rows(tmp_path) == expected(3) | {"0000": ("corrected", 70)}
    assert any("of which a later one has the name; the last is kept: 2" in line for line in source.summary())


def test_what_no_row_uses_is_counted_by_suffix(tmp_path: Path) -> None:
    others = [("0000.npy", b"-"), ("README.md", b"-"), (".DS_Store", b"-"), ("0001.json", b"{"), ("0002.heic", b"-")]
    data = io.BytesIO(tar([*pairs_of(3), *others]))
    with tarfile.open(fileobj=data, mode="a") as archive:
        link = tarfile.TarInfo("0009.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "0000.jpg"
        archive.addfile(link)
    (tmp_path / "a.tar").write_bytes(data.getvalue())
    source, _, _ = ingested(IngestConfig(source=str(tmp_path)))
    assert rows(tmp_path) == expected(3)
    for said in (
        ".npy, which no column takes: 1 (a.tar: 0000.npy)",
        ".md, which no",
        ".heic, which no",
        "hidden members: 1",
    ):
        assert any(said in line for line in source.summary()), said
    for said in ("members that are links or no files: 1 (a.tar: 0009.jpg)", ".json without a JSON object: 1"):
        assert any(said in line for line in source.summary()), said


def header(kind: bytes, data: bytes, format: int) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, len(data)
    return info.tobuf(format) + data + b"\0" * (-len(data) % 512)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (tarfile.GNUTYPE_LONGNAME, b"0000.jpg\0"),
        (tarfile.XHDTYPE, b"17 path=0000.jpg\n"),
        (tarfile.XGLTYPE, b"9 a=bcd\n"),
    ],
)
def test_thousands_of_extended_headers_are_no_recursion(tmp_path: Path, kind: bytes, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(header(kind, data, tarfile.GNU_FORMAT) * 3000 + tar(pairs_of(3)))
    assert rows(tmp_path) == expected(3)


def test_damaged_and_huge_headers_are_one_line(tmp_path: Path) -> None:
    def refused(data: bytes, name: str = "a.tar") -> str:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(StorageError) as caught:
            open_source(IngestConfig(source=str(tmp_path / name)))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    whole = tar(pairs_of(3))
    for record in (b"9999999999999999999999 path=x\n", b"5 pathx\n", b"-1 path=x\n", b"path\n", b"13 size=-1\n"):
        assert "damaged extended header" in refused(header(tarfile.XHDTYPE, record, tarfile.PAX_FORMAT) + whole)
    bomb = header(tarfile.XHDTYPE, b"\0" * (64 << 20), tarfile.PAX_FORMAT)
    assert "more than 1,048,576 are not read" in refused(gzip.compress(bomb + whole), "b.tar.gz")
    assert "it is gzipped, name it .tar.gz" in refused(gzip.compress(whole))
    assert "it is empty" in refused(b"")
    for length in (3, 700, 1700, len(whole) // 2 + 1):
        assert "write it again" in refused(whole[:length])


def test_members_that_are_too_large_are_left_out_and_counted(tmp_path: Path) -> None:
    info = tarfile.TarInfo("0001.jpg")
    info.size = 300 << 20
    with (tmp_path / "a.tar").open("wb") as file:  # with a hole, which takes no room
        file.write(without_end(pairs_of(1)) + info.tobuf())
        file.seek(info.size, 1)
        file.write(tar([("0001.txt", b"bird 1"), *pairs_of(4)[4:]]))
    source, pairs, images = ingested(IngestConfig(source=str(tmp_path), max_unusable=0.5))
    assert pairs["caption"].to_pylist() == [f"bird {i}" for i in range(4)] and source.num_bytes < 20_000
    assert images["status"].to_pylist() == [schema.OK, schema.EMPTY, schema.OK, schema.OK]
    assert any("members that are larger than is read: 1 (a.tar: 0001.jpg)" in line for line in source.summary())


def test_names_that_are_no_text_are_kept_apart(tmp_path: Path) -> None:
    members = [*pairs_of(1, "ca\udce9f.jpg", "ca\udce9f.txt"), *pairs_of(1, "ca\udce8f.jpg", "ca\udce8f.txt")]
    (tmp_path / "a.tar").write_bytes(tar(members, tarfile.GNU_FORMAT))
    assert rows(tmp_path) == {"ca\\xe9f": ("bird 0", 20), "ca\\xe8f": ("bird 0", 20)}


def test_tars_whose_json_differs_are_one_source(tmp_path: Path) -> None:
    abouts = ({"caption": "bird 0", "n": 1}, {"caption": ["bird 1", "heron"], "url": "http://a/1"})
    for i, about in enumerate(abouts):
        members = [(f"{i:04d}.jpg", drawing(i)), (f"{i:04d}.json", json.dumps(about).encode())]
        (tmp_path / f"{i}.tar").write_bytes(tar(members))
    _, pairs, _ = ingested(IngestConfig(source=str(tmp_path)))
    assert pairs["caption"].to_pylist() == ["bird 0", "bird 1"] and pairs["url"].to_pylist() == [None, "http://a/1"]
    assert pairs["captions"].to_pylist() == [["bird 0"], ["bird 1", "heron"]]


def test_json_of_too_many_keys_is_refused_in_one_line(tmp_path: Path) -> None:
    about = json.dumps({f"key {i}": i for i in range(40_000)}).encode()
    (tmp_path / "a.tar").write_bytes(tar([("1.jpg", drawing(1)), ("1.json", about)]))
    with pytest.raises(StorageError, match="more than 4,096 columns"):
        open_source(IngestConfig(source=str(tmp_path)))
