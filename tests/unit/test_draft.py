"""Artifacts that are being made: parts, receipts, and a manifest that is written last."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from react_ray.artifact import Artifact, open_artifact, plan_of
from react_ray.draft import Draft, create, open_unfinished
from react_ray.errors import ArtifactMismatch, ArtifactMissing, StorageError
from react_ray.manifest import MANIFEST
from react_ray.storage import Storage, join
from tests.support.artifacts import CONFIG, IMAGES, INDEX, PAIRS, Facts, begin, fill, finished, table


def test_a_receipt_counts_what_happened(place: Storage) -> None:
    artifact = begin(place)
    receipt = artifact.commit(2, table(2), seconds=1.23456, device="cpu")
    assert (receipt.part, receipt.rows, receipt.ok, receipt.seconds) == (2, 52, 41, 1.235)
    assert receipt.statuses == {"ok": 41, "undecodable": 11} and receipt.facts == {"device": "cpu"}
    data = artifact.storage.read("part-00002.parquet")
    assert receipt.bytes == len(data) == receipt.files["part-00002.parquet"]["bytes"]
    assert artifact.read_file(2, "part-00002.parquet") == data
    assert artifact.receipt(2) == receipt


def test_a_table_without_status_is_all_ok(place: Storage) -> None:
    assert begin(place).commit(0, table(0).drop_columns(["status"]), 0.0).ok == 50


def test_only_parts_without_a_receipt_are_done_again(place: Storage) -> None:
    artifact = begin(place)
    assert artifact.pending() == [0, 1, 2]
    first = artifact.commit(1, table(1), 1.0)
    artifact.storage.write("part-00002.parquet", b"killed before its receipt was written")
    resumed = begin(place)
    assert resumed.pending() == [0, 2] and not resumed.sealed
    for part in resumed.pending():
        resumed.commit(part, table(part), 2.0)
    assert resumed.receipts()[1] == first
    sealed = resumed.seal()
    assert sealed.read(2).to_pydict() == table(2).to_pydict()
    assert sealed.content == finished(place.at("uninterrupted")).content


def test_an_artifact_with_a_pending_part_cannot_be_sealed(place: Storage) -> None:
    artifact = begin(place)
    artifact.commit(0, table(0), 1.0)
    with pytest.raises(StorageError, match=r"part-00001\.json"):
        artifact.seal()
    assert not artifact.storage.exists(MANIFEST)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "config, num_parts, shown",
    [
        (CONFIG | {"k": 20}, 3, ["config.k was 10, now 20"]),
        (
            CONFIG | {"inner": {"rate": 0.1, "names": []}},
            3,
            ["config.inner.rate was 0.5, now 0.1", "was ['a'], now []"],
        ),
        (CONFIG | {"new": 1}, 3, ["config.new was None, now 1"]),
        ({"k": 10}, 3, ["config.inner was {'names': ['a'], 'rate': 0.5}, now None"]),
        (CONFIG, 4, ["parts was 3, now 4"]),
    ],
)
def test_another_configuration_is_refused_with_both_values(
    disk_place: Storage, sealed: bool, config: dict[str, object], num_parts: int, shown: list[str]
) -> None:
    made = finished(disk_place) if sealed else begin(disk_place)
    with pytest.raises(ArtifactMismatch) as caught:
        create(made.uri, PAIRS, config, {}, num_parts)
    assert all(text in str(caught.value) for text in [made.uri, *shown])


def test_the_same_configuration_is_not_refused_for_its_order_or_its_tuples(disk_place: Storage) -> None:
    made = finished(disk_place)
    again = create(made.uri, PAIRS, {"inner": {"names": ("a",), "rate": 0.5}, "k": 10}, {}, 3)
    assert again.open().content == made.content


def test_another_content_of_a_parent_is_refused(disk_place: Storage) -> None:
    pairs, others = finished(disk_place), finished(disk_place.at("others"), text="another caption")
    begin(disk_place, IMAGES, pairs=pairs)
    begin(disk_place, IMAGES, pairs=finished(disk_place.at("copy"), seconds=99.0))
    with pytest.raises(ArtifactMismatch, match=rf"parents\.pairs was '{pairs.content}', now '{others.content}'"):
        begin(disk_place, IMAGES, pairs=others)
    with pytest.raises(ArtifactMismatch, match=r"parents\.pairs was .*, now None"):
        begin(disk_place, IMAGES)


def test_the_content_does_not_depend_on_time_place_or_order_of_parts(disk_place: Storage, s3_place: Storage) -> None:
    on_disk, on_s3 = finished(disk_place), begin(s3_place)
    for part in (2, 0, 1):
        whole = table(part)
        on_s3.commit(part, pa.concat_tables([whole[:20], whole[20:]]), seconds=77.0, host="another")
    sealed = on_s3.seal(Facts(dim=17))
    assert sealed.content == on_disk.content
    for part in range(3):
        name = f"part-{part:05d}.parquet"
        assert on_s3.storage.read(name) == on_disk.storage.read(name)
    assert finished(disk_place.at("x"), text="another").content != on_disk.content


def test_parts_may_be_files_of_any_kind(place: Storage) -> None:
    artifact = create(place.uri, INDEX, {}, {}, 1)
    files = {"shard-0/hot.faiss": b"hot", "shard-0/cold.npy": b"cold"}
    receipt = artifact.commit_files(0, files, seconds=1.0, rows=7)
    sealed = artifact.seal()
    assert (receipt.rows, receipt.ok, receipt.bytes) == (7, 7, 7)
    assert {name: sealed.read_file(0, name) for name in files} == files


def test_an_unsealed_artifact_does_not_exist_until_it_is_sealed_again_with_the_same_content(place: Storage) -> None:
    made = finished(place)
    again = begin(place).reopen()
    with pytest.raises(ArtifactMissing):
        open_artifact(made.uri, PAIRS)
    assert not again.sealed and again.pending() == []
    assert again.seal().content == made.content


def test_a_part_that_is_put_in_the_place_of_another_changes_the_content(place: Storage) -> None:
    made = finished(place)
    again = begin(place).reopen()
    receipt = again.recommit(1, table(1, "other"), 2.0)
    assert receipt.rows == 51 and again.pending() == []
    sealed = again.seal()
    assert sealed.content != made.content and sealed.read(1)["text"][0].as_py() == "other 0"
    assert sealed.content == finished_with(place.at("elsewhere"), "other", 1).content


def test_an_artifact_that_grows_keeps_its_parts_and_what_was_known_from_the_beginning(place: Storage) -> None:
    def begin_pairs(num_parts: int) -> Draft[Facts]:
        return create(join(place.uri, "pairs"), PAIRS, CONFIG, {}, num_parts, grows=True, facts=Facts(parts=num_parts))

    made = fill(begin_pairs(2))
    assert made.facts == Facts(parts=2) and begin_pairs(2).sealed
    old = {name: made.storage.read(name) for name in made.storage.list() if name.startswith("part-")}
    growing = begin_pairs(4)
    assert not growing.sealed and growing.pending() == [2, 3] and begin_pairs(4).pending() == [2, 3]
    growing.commit(2, table(2), 1.0)
    grown = fill(begin_pairs(5))  # more came before it was done
    assert (grown.num_parts, grown.facts, grown.content_of(2)) == (5, Facts(parts=5), made.content)
    assert {name: grown.storage.read(name) for name in old} == old
    assert grown.content == fill(create(join(place.uri, "at_once"), PAIRS, CONFIG, {}, 5)).content
    with pytest.raises(ArtifactMismatch, match="parts was 5, now 4"):
        begin_pairs(4)


def test_an_artifact_grows_with_its_parents_and_with_no_others(disk_place: Storage) -> None:
    def begin_images(pairs: Artifact, grows: bool = True) -> Draft[Facts]:
        return create(join(disk_place.uri, "images"), IMAGES, CONFIG, {"pairs": pairs}, pairs.num_parts, grows)

    def pairs_of(name: str, num_parts: int, text: str) -> Artifact:
        return fill(create(join(disk_place.uri, name), PAIRS, CONFIG, {}, num_parts, grows=True), text)

    pairs = pairs_of("pairs", 2, "caption")
    made = fill(begin_images(pairs))
    more, others = pairs_of("pairs", 3, "caption"), pairs_of("others", 3, "another")
    with pytest.raises(ArtifactMismatch, match=r"parents\.pairs was .*parts was 2, now 3"):
        begin_images(more, grows=False)
    with pytest.raises(ArtifactMismatch, match=r"parents\.pairs was .*parts was 2, now 3"):
        begin_images(others)
    assert open_artifact(made.uri, IMAGES).content == made.content
    grown = fill(begin_images(more))
    assert begin_images(more).sealed and plan_of(grown.uri)["parents"] == {"pairs": more.content}
    assert grown.content_of(2) == made.content


def finished_with(place: Storage, text: str, changed: int) -> Artifact:
    artifact = begin(place)
    for part in artifact.pending():
        artifact.commit(part, table(part, text if part == changed else "caption"), 1.0)
    return artifact.seal()


def test_a_table_without_its_receipt_can_be_used_and_one_that_is_cut_off_cannot(place: Storage) -> None:
    artifact = begin(place)
    assert artifact.written(0) is None
    artifact.commit(0, table(0), 1.0)
    artifact.storage.delete("part-00000.json")
    assert artifact.pending() == [0, 1, 2]
    found = artifact.written(0)
    assert found is not None and found.equals(table(0))
    data = artifact.storage.read("part-00000.parquet")
    artifact.storage.write("part-00000.parquet", data[: len(data) // 2])
    assert artifact.written(0) is None


def test_an_unfinished_artifact_says_what_is_done(place: Storage) -> None:
    artifact = begin(place)
    artifact.commit(1, table(1), 1.0)
    found = open_unfinished(artifact.uri)
    assert (found.kind.name, found.num_parts, found.done()) == ("pairs", 3, [1]) and isinstance(found, Draft)
    assert [receipt.part for receipt in found.receipts()] == [1]
    assert plan_of(artifact.uri)["config"] == CONFIG and plan_of(place.at("nothing").uri) == {}
    with pytest.raises(ArtifactMissing, match="name the directory of one"):
        open_unfinished(place.at("nothing").uri)
    assert isinstance(open_unfinished(finished(place.at("whole")).uri), Artifact)


def test_what_killed_writers_left_is_deleted_when_the_artifact_is_begun_or_resumed(disk_place: Storage) -> None:
    for _ in range(2):
        Path(disk_place.uri, "d").mkdir(parents=True, exist_ok=True)
        left = [Path(disk_place.uri, name) for name in (".writing-a", "d/.writing-b")]
        for path in left:
            path.write_bytes(b"half")
        create(disk_place.uri, PAIRS, {}, {}, 1)
        assert not any(path.exists() for path in left)


def test_an_artifact_grows_by_its_configuration_and_keeps_its_parts(place: Storage) -> None:
    def scores(sets: list[str], **smaller: object) -> Draft[Facts]:
        config = {"sets": sets, **smaller}
        return create(join(place.uri, "grown"), PAIRS, config, {}, len(sets), grows=True, smaller={"sets": ["a"]})

    first = fill(scores(["a"]))
    kept = first.read_file(0, "part-00000.parquet")
    more = scores(["a", "b"])
    assert not more.sealed and more.pending() == [1]
    assert scores(["a", "b"]).pending() == [1], "killed before its new part, it goes on"
    grown = fill(more)
    assert grown.read_file(0, "part-00000.parquet") == kept and grown.manifest.config == {"sets": ["a", "b"]}
    assert scores(["a", "b"]).sealed
    with pytest.raises(ArtifactMismatch, match=r"made by another configuration: config\.other"):
        scores(["a", "b", "c"], other=1)
