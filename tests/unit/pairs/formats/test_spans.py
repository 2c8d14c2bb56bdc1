"""Text of any encoding is read like UTF-8, whatever the format, and what an encoding does not have is counted."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from react_ray.errors import StorageError
from react_ray.pairs.formats.spans import encoding_of, open_bytes, read_span
from react_ray.pairs.source import IngestConfig, open_source
from react_ray.storage import Storage
from tests.support.source_files import read_all, write

WORDS = ["café au lait", "Łódź by night", "горный ручей", "日本の庭", "plain", "𝔉raktur"]
URLS = [f"http://a/{i}" for i in range(300)]
CAPTIONS = [WORDS[i % len(WORDS)] for i in range(300)]
OBJECTS = [{"url": url, "caption": caption} for url, caption in zip(URLS, CAPTIONS, strict=True)]
TEXTS = {
    "csv": "url,caption\r\n" + "".join(f"{row['url']},{row['caption']}\r\n" for row in OBJECTS),
    "tsv": "url\tcaption\n" + "".join(f"{row['url']}\t{row['caption']}\n" for row in OBJECTS),
    "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in OBJECTS),
    "json": json.dumps(OBJECTS, ensure_ascii=False, indent=1),
    "txt": "\n".join(URLS),
}
UNICODE = {
    "utf-8 with a mark": codecs.BOM_UTF8 + b"|utf-8",
    "utf-16-le": codecs.BOM_UTF16_LE + b"|utf-16-le",
    "utf-16-be": codecs.BOM_UTF16_BE + b"|utf-16-be",
    "utf-32": codecs.BOM_UTF32_LE + b"|utf-32-le",
    "utf-32-be": codecs.BOM_UTF32_BE + b"|utf-32-be",
    "utf-16-le without a mark": b"|utf-16-le",
    "utf-16-be without a mark": b"|utf-16-be",
}


@pytest.mark.parametrize("kind", UNICODE)
@pytest.mark.parametrize("suffix", [*TEXTS, "csv.gz", "jsonl.gz", "txt.gz"])
def test_every_form_of_unicode_is_read(tmp_path: Path, suffix: str, kind: str) -> None:
    mark, _, encoding = UNICODE[kind].rpartition(b"|")
    data = mark + TEXTS[suffix.removesuffix(".gz")].encode(encoding.decode())
    pairs = read_all(IngestConfig(source=write(tmp_path, f"list.{suffix}", data), rows_per_part=7))
    assert pairs["url"].to_pylist() == URLS
    assert pairs["caption"].to_pylist() == ([""] * 300 if suffix.startswith("txt") else CAPTIONS)


@pytest.mark.parametrize(("encoding", "word"), [("cp1252", "“café”"), ("cp1251", "горный ручей"), ("shift_jis", "庭")])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
def test_the_encoding_that_the_recipe_names_is_read_and_others_are_told(
    place: Storage, suffix: str, encoding: str, word: str
) -> None:
    text = TEXTS[suffix]
    for other in set(WORDS) - {"plain"}:
        text = text.replace(other, word)
    uri = write(place, f"list.{suffix}", text.encode(encoding))
    config = IngestConfig(source=uri, encoding=encoding, rows_per_part=70)
    captions = [word if caption != "plain" else "plain" for caption in CAPTIONS]
    assert read_all(config)["caption"].to_pylist() == captions
    assert f"files that are read as {encoding.upper()}: 1 (list.{suffix})" in open_source(config).summary()
    if suffix != "json":
        said = "\n".join(open_source(IngestConfig(source=uri)).summary())
        assert "rows with characters that are not of the encoding (set ingest.encoding, such as cp1252): 250" in said


def test_a_mark_goes_before_the_encoding_that_the_recipe_names(tmp_path: Path) -> None:
    marked = write(tmp_path, "a.csv", TEXTS["csv"].encode("utf-16"))
    assert encoding_of(marked, "cp1252") == "utf-16" and encoding_of(marked) == "utf-16"
    plain = write(tmp_path, "b.csv", TEXTS["csv"].encode())
    assert encoding_of(plain, "cp1252") == "cp1252" and encoding_of(plain) == encoding_of(plain, "utf-8") == ""


def test_spans_of_recoded_text_are_read_in_any_order(tmp_path: Path) -> None:
    uri = write(tmp_path, "a.txt.gz", TEXTS["csv"].encode("utf-16"))
    whole = open_bytes(uri, "utf-16").read()
    assert whole == TEXTS["csv"].encode()
    for start, length in ((0, 10), (2000, 100), (500, 3), (0, len(whole)), (len(whole) - 1, 1)):
        assert read_span(uri, start, length, "utf-16") == whole[start : start + length]
    with pytest.raises(StorageError, match="run the stage again"):
        read_span(uri, len(whole) - 1, 2, "utf-16")


@pytest.mark.parametrize("name", ["cp12520", "base64", "rot13"])
def test_an_encoding_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="no text encoding"):
        IngestConfig(source="x", encoding=name)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
@pytest.mark.parametrize("suffix", [*TEXTS, "csv.gz"])
def test_line_ends_of_an_old_mac_are_read_and_told(tmp_path: Path, suffix: str, encoding: str) -> None:
    text = "".join(character for character in TEXTS[suffix.removesuffix(".gz")] if ord(character) < 256)
    data = text.replace("\r\n", "\n").replace("\n", "\r").encode(encoding)
    named = encoding if encoding == "cp1252" else ""
    config = IngestConfig(source=write(tmp_path, f"list.{suffix}", data), rows_per_part=70, encoding=named)
    assert read_all(config)["url"].to_pylist() == URLS
    said = f"files that are read as {encoding.upper()} WITH CR LINE ENDS: 1 (list.{suffix})"
    assert said in open_source(config).summary()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_told_in_a_table_of_long_chinese_captions(tmp_path: Path, encoding: str) -> None:
    text = "url,caption\n" + "".join(f"http://a/{i},{'漢字' * 60}\n" for i in range(90))
    pairs = read_all(IngestConfig(source=write(tmp_path, "list.csv", text.encode(encoding))))
    assert pairs["caption"].to_pylist() == ["漢字" * 60] * 90


def test_a_recipe_may_name_an_encoding_of_many_nuls(tmp_path: Path) -> None:
    uri = write(tmp_path, "list.csv", TEXTS["csv"].encode("utf-32-le"))
    assert read_all(IngestConfig(source=uri, encoding="utf-32-le"))["caption"].to_pylist() == CAPTIONS
