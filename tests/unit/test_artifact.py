"""Finished artifacts: what was committed is read, and anything else is an error."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import react_ray
from react_ray.artifact import Parts, open_artifact
from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ArtifactMissing, StorageError
from react_ray.kinds import EmbeddingsFacts, Kind
from react_ray.manifest import MANIFEST, SCHEMA_VERSION
from react_ray.storage import Storage, join, open_storage
from react_ray.storage.local import LocalStorage
from tests.support.artifacts import IMAGES, INDEX, PAIRS, Facts, begin, finished, table


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_what_was_committed_is_read_once_it_is_sealed(place: Storage) -> None:
    made = finished(place)
    for artifact in (made, open_artifact(made.uri, PAIRS), begin(place).open()):
        assert artifact.num_parts == 3 and artifact.facts == Facts(dim=16)
        assert [found.to_pydict() for found in artifact.tables()] == [table(part).to_pydict() for part in range(3)]
        assert artifact.read(1, columns=["row"]).column_names == ["row"]
        assert artifact.manifest == made.manifest
    assert (made.manifest.rows, made.manifest.ok, made.manifest.seconds) == (153, 121, 3.0)


def test_a_missing_artifact_names_the_verb_that_makes_it(place: Storage) -> None:
    begin(place)
    with pytest.raises(ArtifactMissing, match="no finished pairs here; run `react-ray ingest RECIPE` first"):
        open_artifact(join(place.uri, "pairs"), PAIRS)
    with pytest.raises(ArtifactMissing, match=r"no finished pairs here; name .*/pairs$"):
        open_artifact(place.uri, PAIRS)
    with pytest.raises(ArtifactMissing, match=r"no finished index here; run `react-ray index RECIPE` first"):
        open_artifact(place.uri, INDEX)
    with pytest.raises(ArtifactMissing, match="run `react-ray index RECIPE` first"):
        open_artifact(join(place.uri, "nothing"), INDEX)


def test_another_kind_or_version_is_refused(disk_place: Storage) -> None:
    made = finished(disk_place)
    with pytest.raises(
        ArtifactMismatch, match=f"holds pairs of version {SCHEMA_VERSION}, not images of version {SCHEMA_VERSION}"
    ):
        open_artifact(made.uri, IMAGES)
    newer = json.loads(made.storage.read(MANIFEST)) | {"schema_version": SCHEMA_VERSION + 1, "of_tomorrow": 1}
    made.storage.write(MANIFEST, json.dumps(newer).encode())
    with pytest.raises(ArtifactMismatch, match=f"holds pairs of version {SCHEMA_VERSION + 1}"):
        open_artifact(made.uri, PAIRS)


def test_a_flipped_bit_is_an_error_not_another_value(disk_place: Storage) -> None:
    made, name = finished(disk_place), "part-00001.parquet"
    whole = made.storage.read(name)
    end_of_pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    num_corrupt = 0
    for at in range(4, end_of_pages, 5):
        made.storage.write(name, flipped(whole, at))
        with pytest.raises(ArtifactCorrupt, match=rf"{name} has a wrong checksum; delete .*run the stage again"):
            made.read_file(1, name)
        try:
            assert made.read(1).to_pydict() == table(1).to_pydict(), at  # an unused byte of a page's header
        except ArtifactCorrupt:
            num_corrupt += 1
    assert num_corrupt > 0.5 * len(range(4, end_of_pages, 5))
    assert made.read(0).num_rows == 50


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_part_is_corrupt(place: Storage, kept: float) -> None:
    made = finished(place)
    data = made.storage.read("part-00001.parquet")
    made.storage.write("part-00001.parquet", data[: int(kept * len(data))])
    with pytest.raises(ArtifactCorrupt, match=r"part-00001\.parquet"):
        made.read(1)


def test_a_part_that_cannot_be_reached_is_not_called_corrupt(tmp_path: Path) -> None:
    made = finished(open_storage(str(tmp_path)))
    made.storage.delete("part-00001.parquet")
    with pytest.raises(StorageError, match=r"No such file"):
        made.read(1)


def test_a_manifest_that_lacks_a_fact_of_its_kind_is_corrupt(disk_place: Storage) -> None:
    made = finished(disk_place)
    with pytest.raises(ArtifactCorrupt, match=r"facts: backbone is missing; .*run the stage again"):
        open_artifact(made.uri, Kind("pairs", EmbeddingsFacts, "ingest")).facts  # noqa: B018


def test_an_artifact_can_be_opened_without_naming_its_kind(disk_place: Storage) -> None:
    made = finished(disk_place)
    assert (react_ray.open_artifact(made.uri).content, react_ray.open_artifact(made.uri).kind.name) == (
        made.content,
        "pairs",
    )
    with pytest.raises(ArtifactMissing, match="no finished artifact here"):
        react_ray.open_artifact(join(disk_place.uri, "nothing"))


def test_a_kind_that_nobody_knows_is_refused_in_one_line(disk_place: Storage) -> None:
    made = finished(disk_place)
    unknown = json.loads(made.storage.read(MANIFEST)) | {"kind": "dreams"}
    made.storage.write(MANIFEST, json.dumps(unknown).encode())
    with pytest.raises(ArtifactMismatch, match=r"holds dreams, which is none of pairs, .*; name another directory"):
        react_ray.open_artifact(made.uri)


class _Counting(LocalStorage):
    """A place that counts the bytes that are read of files that are open for random access."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.num_read = 0

    def arrow_file(self, path: str) -> pa.NativeFile:
        place = self

        class File(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                data = super().read(size)
                place.num_read += len(data)
                return data

        return pa.PythonFile(File(self.read(path)), mode="r")


def test_the_first_rows_of_a_large_part_cost_a_small_share_of_it(disk_place: Storage) -> None:
    rows = 40_000
    values = np.random.default_rng(0).bytes(rows * 128)
    large = pa.table(
        {
            "row": range(rows),
            "vector": pa.FixedSizeBinaryArray.from_buffers(pa.binary(128), rows, [None, pa.py_buffer(values)]),
        }
    )
    draft = begin(disk_place, num_parts=1)
    size = draft.commit(0, large, 1.0).bytes
    place = _Counting(draft.uri)
    assert Parts(place, PAIRS, 1).head(0, 3).equals(large.slice(0, 3))
    assert 0 < place.num_read < size / 2 and size > 5_000_000


def test_some_rows_are_checked_as_all_rows_are(disk_place: Storage) -> None:
    made, name, names = finished(disk_place), "part-00001.parquet", table(1).column_names
    assert made.head(1, 5).equals(table(1).slice(0, 5)) and made.head(1, 1000).equals(table(1))
    assert made.read_rows(1, 20, 10, names).equals(table(1).slice(20, 10))
    whole = made.storage.read(name)
    for at in (len(whole) - 30, 20):  # the footer, and a page
        made.storage.write(name, flipped(whole, at))
        for look in (lambda: made.head(1, 5), lambda: made.read_rows(1, 5, 5, names)):
            with pytest.raises(ArtifactCorrupt, match="wrong checksum"):
                look()
    made.storage.delete(name)
    for look in (lambda: made.head(1, 5), lambda: made.read_rows(1, 5, 5, names)):
        with pytest.raises(StorageError, match=r"cannot read .*part-00001\.parquet"):
            look()
