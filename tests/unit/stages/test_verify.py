"""verify: every fault below a URI is named, and what is whole is said to be whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import react_ray
from react_ray.cli import main
from react_ray.draft import create
from react_ray.errors import ArtifactMissing
from react_ray.index.deleted import delete_pairs
from react_ray.kinds import INDEX, IndexFacts
from react_ray.manifest import BUILDING, MANIFEST
from react_ray.stages.verify import verify
from react_ray.storage import Storage, join
from tests.support.artifacts import IMAGES, begin, finished, table


def database(place: Storage) -> None:
    """Two finished artifacts, one within the other, one that is under way, and files without receipts."""
    pairs = finished(place)
    begin(place, IMAGES, pairs=pairs).commit(1, table(1), 1.0)
    index = create(join(place.uri, "pairs/deltas/00000"), INDEX, {}, {}, 2)
    for part in range(2):
        index.commit_files(part, {f"shard/{part}.faiss": bytes(part)}, 1.0, rows=part)
    index.seal(IndexFacts("flat", ["image"], 1))
    delete_pairs(place.uri, np.arange(3))
    place.write("recipe.yaml", b"name: x\n")
    place.write("costs.json", b"{}")
    place.write("metrics/train.jsonl", b'{"step": 1}\n')


def faults(place: Storage) -> list[str]:
    found = verify(place.uri)
    for line in found.wrong:
        assert line.isprintable() and "; " in line and line.startswith(place.uri)
    return [line.removeprefix(f"{place.uri}/") for line in found.wrong]


def flip(place: Storage, path: str, at: int) -> None:
    data = bytearray(place.read(path))
    data[at] ^= 1
    place.write(path, bytes(data))


def test_what_is_whole_is_counted_and_what_is_not_finished_is_said(place: Storage) -> None:
    database(place)
    found = verify(place.uri, num_threads=2)
    assert (found.num_artifacts, found.num_parts, found.num_files, found.num_others) == (3, 6, 6, 4)
    sizes = place.sizes()
    assert found.num_bytes == sum(sizes[path] for path in sizes if path.endswith((".parquet", ".faiss")))
    assert found.unfinished == [f"{place.uri}/images, 1 of 3 parts are done"] and not found.wrong
    assert found.summary[-1] == "all bytes are those that were committed"
    assert react_ray.verify(join(place.uri, "pairs/deltas/00000")).num_parts == 2


def test_every_byte_of_a_part_counts(disk_place: Storage) -> None:
    finished(disk_place)
    size = disk_place.sizes()["pairs/part-00001.parquet"]
    for at in range(0, size, max(1, size // 40)):
        flip(disk_place, "pairs/part-00001.parquet", at)
        assert faults(disk_place) == [
            f"pairs/part-00001.parquet has a wrong checksum; delete part-00001.json and {MANIFEST}, run the stage again"
        ]
        flip(disk_place, "pairs/part-00001.parquet", at)
    assert faults(disk_place) == []


def test_each_fault_is_named_once_with_what_to_do(place: Storage) -> None:
    database(place)
    place.delete("pairs/part-00000.parquet")
    place.write("pairs/part-00001.parquet", place.read("pairs/part-00002.parquet"))
    place.write("images/part-00001.json", b"{")
    place.write("pairs/deltas/00000/shard/1.faiss", b"x")
    place.write("costs.json", b"[1")
    place.write("metrics/train.jsonl", b'{"step"')
    place.write("recipe.yaml", b"a: [")
    [deletion] = place.list("deleted")
    flip(place, deletion, -1)
    found = faults(place)
    starts = [
        "images/part-00001.json is not JSON",
        "pairs/deltas/00000/shard/1.faiss has a wrong checksum",
        "pairs/part-00000.parquet is gone; delete part-00000.json",
        "pairs/part-00001.parquet has ",
        "costs.json is not JSON",
        "metrics/train.jsonl, line 1, is not JSON",
        "recipe.yaml is not YAML",
        f"{deletion} is damaged",
    ]
    assert all(sum(line.startswith(start) for line in found) == 1 for start in starts) and len(found) == len(starts)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("part-00001.json", "1 of 3 receipts are gone, the first of part 1"),
        (BUILDING, ""),
        (MANIFEST, ""),
        (f"{BUILDING} {MANIFEST}", "has parts, and no _building.json says"),
    ],
)
def test_what_is_missing_of_the_metadata_is_said(disk_place: Storage, name: str, fault: str) -> None:
    made = finished(disk_place)
    for one in name.split():
        made.storage.delete(one)
    found = verify(made.uri)
    assert [fault in line for line in found.wrong] == [True] * bool(fault)
    assert bool(found.unfinished) == (name == MANIFEST)


def test_a_manifest_that_was_sealed_over_other_receipts_is_wrong(disk_place: Storage) -> None:
    made = finished(disk_place)
    whole = made.storage.read(MANIFEST)
    begin(disk_place).reopen().recommit(1, table(1, "other"), 1.0)
    made.storage.write(MANIFEST, whole)
    assert any("states another content than its receipts" in line for line in verify(made.uri).wrong)


def test_what_is_left_over_is_listed_and_is_no_fault(disk_place: Storage) -> None:
    begin(disk_place).commit(0, table(0), 1.0)
    folder = Path(disk_place.uri, "pairs")
    (folder / ".writing-abc").write_bytes(b"half")
    (folder / "part-00002.parquet").write_bytes(b"whole, and killed before its receipt")
    found = verify(disk_place.uri)
    assert not found.wrong and len(found.left_over) == 2
    assert any(".writing-abc of a write that was killed" in line for line in found.left_over)
    assert any("part-00002.parquet has no receipt" in line for line in found.left_over)


def test_a_folder_without_artifacts_is_refused(place: Storage) -> None:
    place.write("other/a.json", b"{}")
    for uri in (place.uri, join(place.uri, "nothing")):
        with pytest.raises(ArtifactMissing, match="name one, a database, or the folder of a run"):
            verify(uri)


def test_artifacts_of_an_earlier_version_without_checksums_of_metadata_are_whole(disk_place: Storage) -> None:
    made = finished(disk_place)
    for path in (MANIFEST, BUILDING, "part-00000.json", "part-00001.json", "part-00002.json"):
        fields = json.loads(made.storage.read(path))
        del fields["checksum"]
        for stored in fields.get("files", {}).values():
            del stored["footer_sha256"]
        made.storage.write(path, json.dumps(fields).encode())
    assert faults(disk_place) == [] and made.read(1).equals(table(1))


def test_the_command_fails_if_something_is_wrong(disk_place: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    made = finished(disk_place)
    main(["verify", made.uri])
    assert "all bytes are those that were committed" in capsys.readouterr().out
    flip(disk_place, "pairs/part-00001.parquet", 100)
    with pytest.raises(SystemExit) as stop:
        main(["verify", made.uri])
    assert stop.value.code == 1 and "wrong: " in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["verify", made.uri, "--json"])
    value = json.loads(capsys.readouterr().out)
    assert stop.value.code == 1 and value["num_artifacts"] == 1 and len(value["wrong"]) == 1
