"""Captions and JSON in tars are decoded each by itself, and what an encoding does not have is counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from react_ray.pairs.source import IngestConfig, open_source
from tests.support.field.containers import drawing, ingested, tar


def captions(path: Path, encoding: str = "") -> list[str]:
    return ingested(IngestConfig(source=str(path), encoding=encoding))[1]["caption"].to_pylist()


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_captions_and_json_have_any_encoding_and_others_are_counted(tmp_path: Path, name: str) -> None:
    about = json.dumps({"caption": "café", "w": 1}, ensure_ascii=False)
    members = [member for i in range(6) for member in ((f"{i}.jpg", drawing(i)),)]
    members += [("0.txt", "café".encode("cp1252")), ("1.txt", "café".encode("utf-16-le")), ("2.txt", "café".encode())]
    members += [(f"{i}.json", about.encode(kind)) for i, kind in ((3, "utf-8-sig"), (4, "utf-16"), (5, "utf-16-be"))]
    data = tar(members)
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert captions(path) == ["caf\ufffd", *["café"] * 5]
    said = open_source(IngestConfig(source=str(path))).summary()
    wanted = (
        f"members with characters that are not of the encoding (set ingest.encoding, such as cp1252): 1 ({name}: 0.txt)"
    )
    assert wanted in said and not any(line.startswith("passed over") for line in said)
    assert captions(path, encoding="cp1252")[0] == "café"


@pytest.mark.parametrize("blank", [b"", b" \n", b"\xef\xbb\xbf"])
def test_a_blank_caption_leaves_that_of_the_json(tmp_path: Path, blank: bytes) -> None:
    members = [("0.jpg", drawing(0)), ("0.txt", blank), ("0.json", b'{"TEXT": "bird 0"}')]
    (tmp_path / "a.tar").write_bytes(tar(members))
    assert captions(tmp_path / "a.tar") == ["bird 0"]
