"""Metadata that is damaged, edited or of another version: the right value, or one line that ends with what to do."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from react_ray.artifact import open_artifact, plan_of
from react_ray.draft import create, open_unfinished
from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ConfigError, ReactRayError
from react_ray.manifest import BUILDING, MANIFEST
from react_ray.metadata import parse_json, read_json_lines, shaped, stamped
from react_ray.storage import Storage
from tests.support.artifacts import CONFIG, PAIRS, begin, finished

RECEIPT = "part-00001.json"
OURS = [MANIFEST, RECEIPT, BUILDING]
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "spaces": lambda data: b" \n",
    "cut": lambda data: data[: len(data) // 2],
    "binary": lambda data: bytes(range(128, 256)),
    "zeros": lambda data: bytes(len(data)),
    "a list": lambda data: b"[" + data + b"]",
    "a word": lambda data: b'"rows"',
    "null": lambda data: b"null",
    "nested": lambda data: b"[" * 100_000,
    "nested and closed": lambda data: b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "a long number": lambda data: data.replace(b": 3", b": " + b"3" * 5000, 1).replace(b": 51", b": " + b"5" * 5000, 1),
    "a key twice": lambda data: data.replace(b"{", b'{"parts": 1, "rows": 1,', 1).replace(b"{", b'{"rows": 2,', 1),
    "a lone surrogate": lambda data: data.replace(b'"config"', b'"\\ud800"', 1).replace(b'"files"', b'"\\ud800"', 1),
    "two documents": lambda data: data + data,
}


def read_all(uri: str) -> None:
    open_artifact(uri, PAIRS).receipts()
    list(open_artifact(uri).tables())
    open_unfinished(uri)
    create(uri, PAIRS, CONFIG, {}, 3)


def one_line(error: ReactRayError) -> str:
    text = str(error)
    assert text.isprintable() and len(text) < 1000 and "; " in text, text
    return text


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("damage", list(BYTES))
def test_damaged_metadata_is_corrupt_and_named(disk_place: Storage, name: str, damage: str) -> None:
    made = finished(disk_place)
    made.storage.write(name, BYTES[damage](made.storage.read(name)))
    with pytest.raises(ArtifactCorrupt) as caught:
        read_all(made.uri)
    assert f"{made.uri}/{name}" in one_line(caught.value) and "delete" in str(caught.value)


@pytest.mark.parametrize("stamp", ["with its checksum", "of a version without checksums"])
@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("value", [None, -1, 1.5, True, "3", [], {}, float("nan"), 10**30, "\ud800\n"])
def test_a_field_of_another_type_is_never_taken_for_a_value(
    disk_place: Storage, name: str, value: Any, stamp: str
) -> None:
    made = finished(disk_place)
    fields = json.loads(made.storage.read(name))
    if stamp != "with its checksum":
        fields.pop("checksum")
    for key in fields.keys() - {"kind", "schema_version", "checksum", "seconds", "facts", "created"}:
        if fields[key] == value and type(fields[key]) is type(value):
            continue
        made.storage.write(name, json.dumps(fields | {key: value}).encode())
        allowed = key in ("config", "parents", "statuses", "files") and value == {}
        if stamp == "with its checksum" or not (allowed or (key == "content" and isinstance(value, str))):
            with pytest.raises((ArtifactCorrupt, ArtifactMismatch)) as caught:
                read_all(made.uri)
            one_line(caught.value)


@pytest.mark.parametrize("name", OURS)
def test_an_edit_is_seen_whatever_it_changes(disk_place: Storage, name: str) -> None:
    made = finished(disk_place)
    whole = made.storage.read(name)
    for old, new in ((b'"seconds": 1', b'"seconds": 2'), (b'"rate": 0.5', b'"rate": 0.6'), (b'"ok": 4', b'"ok": 3')):
        made.storage.write(name, whole.replace(old, new, 1))
        if whole.replace(old, new, 1) != whole:
            with pytest.raises(ArtifactCorrupt, match="was changed after it was written"):
                read_all(made.uri)


@pytest.mark.parametrize("seed", range(3))
def test_no_random_damage_gives_anything_but_an_error_of_ours_or_the_same_value(disk_place: Storage, seed: int) -> None:
    made, draw = finished(disk_place), random.Random(seed)
    for _ in range(60):
        name = draw.choice(OURS)
        whole = made.storage.read(name)
        at, length = draw.randrange(len(whole)), draw.choice([0, 1, 1, 8, 1000])
        junk = draw.choice([b"", b"9", b"{", b'"', b"\xff", b"null,", b"1e999", b"\n"])
        made.storage.write(name, whole[:at] + junk + whole[at + length :])
        try:
            read_all(made.uri)
            assert open_artifact(made.uri).manifest == made.manifest
        except ReactRayError as error:
            one_line(error)
        made.storage.write(name, whole)


@pytest.mark.parametrize("name", OURS)
def test_fields_of_a_newer_version_are_left_out_and_earlier_files_without_a_checksum_are_read(
    disk_place: Storage, name: str
) -> None:
    made = finished(disk_place)
    fields = json.loads(made.storage.read(name))
    fields.pop("checksum")
    for written in (stamped(fields | {"of_tomorrow": {"a": 1}}), json.dumps(fields | {"of_tomorrow": 1}).encode()):
        made.storage.write(name, written)
        read_all(made.uri)
        assert open_artifact(made.uri, PAIRS).manifest == made.manifest


def test_a_manifest_that_another_kind_of_editor_saved_is_the_same(disk_place: Storage) -> None:
    made = finished(disk_place)
    fields = json.loads(made.storage.read(MANIFEST))
    made.storage.write(MANIFEST, b"\xef\xbb\xbf" + json.dumps(fields, indent="\t").replace("\n", "\r\n").encode())
    assert open_artifact(made.uri, PAIRS).manifest == made.manifest


def test_a_receipt_in_the_place_of_another_is_corrupt(disk_place: Storage) -> None:
    made = finished(disk_place)
    made.storage.write(RECEIPT, made.storage.read("part-00002.json"))
    with pytest.raises(ArtifactCorrupt, match=r"part-00001\.json is the receipt of part 2; delete"):
        made.read(1)


def test_what_a_finished_artifact_was_made_of_is_known_without_its_plan(disk_place: Storage) -> None:
    made = finished(disk_place)
    made.storage.delete(BUILDING)
    assert create(made.uri, PAIRS, CONFIG, {}, 3).sealed
    with pytest.raises(ArtifactMismatch, match=r"config\.k was 10, now 11"):
        create(made.uri, PAIRS, CONFIG | {"k": 11}, {}, 3)


def test_parts_of_which_nothing_says_what_they_were_made_of_are_not_taken_for_ours(disk_place: Storage) -> None:
    draft = begin(disk_place)
    draft.commit(0, finished(disk_place.at("other")).read(0), 1.0)
    draft.storage.delete(BUILDING)
    with pytest.raises(ArtifactCorrupt, match=r"no _building\.json says .*; delete that directory"):
        begin(disk_place)
    with pytest.raises(ArtifactCorrupt, match="is gone"):
        draft.seal()
    assert plan_of(draft.uri) == {}


@pytest.mark.parametrize(
    "text, shown",
    [
        ('{"a": 1,\n "b": }', "is not JSON (expecting value at line 2, column 7)"),
        ('{"a": ' + "1" * 5000 + "}", "has a number of 5,000 digits at line 1, column 7"),
        ('{"a": 1,\n"a": 2}', "'a' is there twice"),
        ("", "is empty"),
    ],
)
def test_a_mistake_in_a_file_of_the_user_is_shown_where_it_is(text: str, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_json(text.encode(), "tasks.json", "correct it", ConfigError)
    assert one_line(caught.value).endswith(f"{shown}; correct it")


def test_bytes_that_are_no_text_are_shown_where_they_are() -> None:
    with pytest.raises(ConfigError, match="is not UTF-8 text at line 2, column 3; correct it"):
        parse_json(b'{\n "\xff": 1}', "tasks.json", "correct it", ConfigError)


def test_lines_are_read_one_by_one_and_a_cut_one_is_named(tmp_path: Path, disk_place: Storage) -> None:
    disk_place.write("m.jsonl", b'{"step": 1}\n\n{"step": 2, "loss": NaN}\n')
    rows = read_json_lines(disk_place, "m.jsonl", dict[str, float], "delete it")
    assert [row["step"] for row in rows] == [1, 2]
    disk_place.write("m.jsonl", b'{"step": 1}\n{"step": ')
    with pytest.raises(ArtifactCorrupt, match=r"m\.jsonl, line 2, is not JSON .*; delete it"):
        read_json_lines(disk_place, "m.jsonl", dict[str, float], "delete it")


def test_numbers_as_keys_are_covered_by_the_checksum() -> None:
    written = stamped({"counts": {2: "b", 10: "a"}})
    assert shaped(json.loads(written), dict[str, Any], "x", "y") == {"counts": {"2": "b", "10": "a"}}
