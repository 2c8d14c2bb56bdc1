"""The description of an artifact says what is in it, how far it is and what it was made of."""

from __future__ import annotations

import pyarrow as pa
import pytest

from react_ray import schema
from react_ray.draft import create
from react_ray.errors import ArtifactCorrupt, ArtifactMissing
from react_ray.kinds import INDEX, PAIRS, IndexFacts, PairsFacts
from react_ray.manifest import BUILDING, MANIFEST
from react_ray.stages.showing.describe import Description, describe
from react_ray.storage import Storage, join
from tests.support.artifacts import begin, finished, table
from tests.support.retrieved import DIM, write_images, write_queries, write_retrieved


def first_rows(found: Description) -> dict[str, tuple[str, list[str]]]:
    return {column.name: (column.type, column.first) for column in found.columns}


def test_images_vectors_matches_and_nulls_are_short_texts(place: Storage) -> None:
    write_retrieved(place.uri)
    write_images(place.uri)
    images = first_rows(describe(join(place.uri, "images"), 3))
    assert images["image"] == ("binary", ["jpg 300x200, 6.0 kB", "null", "21 B of no image"])
    assert images["pair_id"] == ("int64", ["0", "1", "2"])
    retrieved = first_rows(describe(join(place.uri, "retrieved"), 1))
    assert retrieved["text_embedding"] == (f"{DIM} x float16", [f"{DIM} x float16"])
    assert retrieved["matches"] == (
        "list of (class_id, prompt, score, key)",
        ["2: 0 a photo of a heron. 0.9 text"],
    )


def test_counts_statuses_config_parents_and_facts_are_said(place: Storage) -> None:
    pairs = finished(place)
    found = describe(pairs.uri, 2)
    assert (found.kind, found.finished, found.parts, found.parts_done, found.pending) == ("pairs", True, 3, 3, [])
    assert (found.rows, found.ok, found.bytes) == (153, pairs.manifest.ok, pairs.manifest.bytes)
    assert found.content == pairs.content and found.facts == {"dim": 16, "parts": 0}
    text = found.text()
    assert f"{pairs.uri}: pairs, finished" in text and "153 rows, 121 ok, in 3 parts" in text
    assert "statuses: ok 121, undecodable 32" in text
    assert 'made with: inner.names=["a"], inner.rate=0.5, k=10' in text and "facts: dim=16" in text
    assert found.json()["columns"][0] == {"name": "row", "type": "int64", "first": ["0", "1"]}


def test_an_unfinished_artifact_counts_what_is_done_and_names_what_is_pending(place: Storage) -> None:
    begin(place).commit(1, table(1), 2.5)
    found = describe(join(place.uri, "pairs"), 1)
    assert (found.finished, found.parts_done, found.pending, found.content) == (False, 1, [0, 2], "")
    assert (found.rows, found.seconds, found.statuses["ok"]) == (51, 2.5, 40)
    assert "not finished, 1 of 3 parts are done" in found.text()
    assert "pending parts: 0, 2; `react-ray ingest RECIPE` makes them" in found.text()


def test_an_artifact_that_has_just_begun_has_no_rows_to_show(disk_place: Storage) -> None:
    found = describe(begin(disk_place).uri, 3)
    assert (found.rows, found.columns) == (0, []) and "0 of 3 parts are done" in found.text()


def test_the_parts_of_an_index_are_files(disk_place: Storage) -> None:
    index = create(join(disk_place.uri, "index"), INDEX, {}, {}, 1)
    index.commit_files(0, {"image-00000.faiss": bytes(2_500_000)}, 1.0, rows=7)
    index.seal(IndexFacts("flat", ["image"], 1))
    found = describe(index.uri, 3)
    assert found.columns == [] and found.files == {"image-00000.faiss": 2_500_000}
    assert "image-00000.faiss  2.5 MB" in found.text()


def test_the_first_rows_come_from_the_first_part_that_has_any(disk_place: Storage) -> None:
    pairs = create(join(disk_place.uri, "pairs"), PAIRS, {}, {}, 2)
    pairs.commit(0, schema.PAIRS.empty_table(), 0.0)
    pairs.commit(1, pa.table({"pair_id": [7], "url": [None], "caption": ["x"]}, schema=schema.PAIRS), 0.0)
    pairs.seal(PairsFacts())
    assert first_rows(describe(pairs.uri, 5))["caption"] == ("string", ["x"])


def test_no_character_of_a_caption_reaches_the_terminal_that_does_not_print(disk_place: Storage) -> None:
    pairs = create(join(disk_place.uri, "pairs"), PAIRS, {"source": "\x1b[31m"}, {}, 1)
    hostile = ["a\x1b[2Jb\n\x07", "‮evil", "x" * 500]
    rows = pa.table({"pair_id": [0, 1, 2], "url": hostile, "caption": hostile}, schema=schema.PAIRS)
    pairs.commit(0, rows, 0.0)
    pairs.seal(PairsFacts(summary=["\x1b]0;title"]))
    text = describe(pairs.uri, 3).text()
    assert all(line.isprintable() for line in text.split("\n")) and max(map(len, text.split("\n"))) < 200


@pytest.mark.parametrize("damage", [b"{", b"", b"[]", b'{"kind": "pairs"}', b"\xff"])
def test_a_damaged_manifest_is_one_line(disk_place: Storage, damage: bytes) -> None:
    pairs = finished(disk_place)
    pairs.storage.write(MANIFEST, damage)
    with pytest.raises(ArtifactCorrupt, match=MANIFEST) as raised:
        describe(pairs.uri, 3)
    assert str(raised.value).isprintable() and "delete " in str(raised.value)


def test_a_manifest_alone_is_enough_and_a_folder_without_one_is_refused(disk_place: Storage) -> None:
    write_queries(disk_place.uri)
    queries = disk_place.at("queries")
    queries.delete(BUILDING)
    assert describe(queries.uri, 1).config == {"prompts": "separate"}
    with pytest.raises(ArtifactMissing):
        describe(disk_place.uri, 1)
