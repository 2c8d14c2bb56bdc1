"""A retrieval is read from whatever exists, and every pair keeps its class, score and image."""

from __future__ import annotations

import json

import pytest

from react_ray.draft import create
from react_ray.errors import ArtifactCorrupt, ArtifactMissing
from react_ray.kinds import RETRIEVED
from react_ray.pairs.retrieval import NOT_THERE, Place, RetrievedPair, open_retrieval
from react_ray.storage import Storage, join
from tests.support.retrieved import (
    CLASSES,
    EVIL,
    NO_PAIR,
    PER_PART,
    photo,
    rows,
    write_images,
    write_queries,
    write_report,
    write_retrieved,
    write_run,
    write_selected,
)


def found(root: str) -> dict[int, RetrievedPair]:
    """All pairs of a retrieval, by pair_id."""
    retrieval = open_retrieval(root)
    places = [Place(part, row) for part in retrieval.done for row in range(PER_PART)]
    return {pair.pair_id: pair for _, pair in retrieval.read(places)}


def test_classes_have_their_counts_scores_prompts_and_match(place: Storage) -> None:
    classes = open_retrieval(write_run(place)).classes()
    assert [(one.task, one.class_name) for one in classes] == CLASSES
    assert [one.pairs for one in classes] == [3, 3, 3, 3, 0]
    assert classes[0].prompts == ["a photo of a heron.", "a drawing of a heron."]
    scores = rows()["score"].to_pylist()[0::4]
    assert (classes[0].score_max, classes[0].score_min) == (max(scores), min(scores))
    assert classes[0].score_mean == pytest.approx(sum(scores) / 3)
    assert (classes[NO_PAIR].score_max, classes[NO_PAIR].match) == (None, None)
    assert classes[3].match == {"named": 0.0, "z": 1.25, "flags": ["far_away"], "advice": ["Try a synonym."]}


def test_the_best_and_the_last_pairs_of_a_class_are_found_in_order(disk_place: Storage) -> None:
    retrieval = open_retrieval(write_run(disk_place))
    ids = {place: pair.pair_id for place, pair in retrieval.read(retrieval.best(0, 9))}
    table = rows()
    wanted = [
        pair for pair, own in zip(*(table[c].to_pylist() for c in ("pair_id", "class_id")), strict=True) if own == 0
    ]
    assert [ids[one] for one in retrieval.best(0, 9)] == wanted
    assert retrieval.best(0, 1, 1) == [retrieval.best(0, 9)[0], retrieval.best(0, 9)[-1]]
    assert {place.part for place in retrieval.best(0, 9, parts=[1])} == {1}
    assert retrieval.best(NO_PAIR, 9) == []


def test_pairs_come_with_their_images_and_what_the_source_had(place: Storage) -> None:
    pairs = found(write_run(place))
    assert sorted(pairs) == rows()["pair_id"].to_pylist()
    assert pairs[0].image == photo(0) and pairs[0].status == "ok" and pairs[0].caption == f"a heron 0 {EVIL}"
    assert (pairs[1].image, pairs[1].status) == (None, "http_404")
    assert pairs[0].matches[0]["prompt"] == "a photo of a heron." and pairs[0].url.startswith("https://example.org/")


def test_an_unfinished_retrieval_shows_the_parts_that_are_done(disk_place: Storage) -> None:
    write_queries(disk_place.uri)
    write_retrieved(disk_place.uri, done=[1])
    write_images(disk_place.uri, done=[])
    retrieval = open_retrieval(disk_place.uri)
    assert retrieval.done == [1] and not retrieval.is_complete and retrieval.num_pairs == PER_PART
    assert {pair.status for pair in found(disk_place.uri).values()} == {NOT_THERE}
    assert sum(one.pairs for one in retrieval.classes()) == PER_PART


def test_images_of_some_parts_are_enough(disk_place: Storage) -> None:
    root = disk_place.uri
    write_retrieved(root)
    write_images(root, done=[1])
    status = {pair_id >> 20: pair.status for pair_id, pair in found(root).items() if pair_id & 1048575 == 0}
    assert status == {0: NOT_THERE, 1: "ok"}


def test_pairs_that_are_only_selected_have_no_caption_yet(disk_place: Storage) -> None:
    write_queries(disk_place.uri)
    write_selected(disk_place.uri)
    pairs = found(disk_place.uri)
    assert len(pairs) == 12 and {(pair.caption, pair.status) for pair in pairs.values()} == {("", NOT_THERE)}


def test_an_arm_without_queries_of_its_own_has_those_of_its_run(disk_place: Storage) -> None:
    write_queries(disk_place.uri)
    arm = join(disk_place.uri, "arms/other")
    write_retrieved(arm)
    assert open_retrieval(arm).classes()[0].class_name == "heron"


def test_without_queries_classes_are_numbered(disk_place: Storage) -> None:
    write_retrieved(disk_place.uri)
    assert [one.class_name for one in open_retrieval(disk_place.uri).classes()] == [f"class {i}" for i in range(4)]


def test_a_pair_counts_for_every_class_that_hit_it_where_the_recipe_says_so(disk_place: Storage) -> None:
    write_queries(disk_place.uri)
    write_retrieved(disk_place.uri, exclusive=False)
    retrieval = open_retrieval(disk_place.uri)
    assert [one.pairs for one in retrieval.classes()] == [6, 6, 6, 6, 0]
    assert retrieval.num_pairs == 12
    first, *_ = retrieval.read(retrieval.best(0, 1))
    assert first[1].matches[0]["class_id"] == 0


def test_images_of_other_pairs_are_refused(disk_place: Storage) -> None:
    write_retrieved(disk_place.uri, num_parts=2)
    write_images(disk_place.uri, num_parts=2)
    images = disk_place.at("images")
    for suffix in ("parquet", "json"):  # part 1 becomes a copy of part 0
        data = images.read(f"part-00000.{suffix}")
        images.write(f"part-00001.{suffix}", data)
    receipt = json.loads(images.read("part-00001.json"))
    receipt["files"] = {"part-00001.parquet": receipt["files"]["part-00000.parquet"]}
    receipt["part"] = 1
    del receipt["checksum"]
    images.write("part-00001.json", json.dumps(receipt).encode())
    with pytest.raises(ArtifactCorrupt, match=r"other pairs than .* in part 1; delete the images there"):
        found(disk_place.uri)


def test_a_place_without_pairs_says_what_to_run(disk_place: Storage) -> None:
    create(join(disk_place.uri, "retrieved"), RETRIEVED, {}, {}, 3)  # begun, and no part is done
    with pytest.raises(ArtifactMissing, match="no pairs were retrieved here so far; run `react-ray retrieve RECIPE`"):
        open_retrieval(disk_place.uri)


def test_a_damaged_report_is_one_line(disk_place: Storage) -> None:
    root = write_run(disk_place)
    disk_place.write("selection.json", b'{"classes": [{"class_id": "x"}]}')
    with pytest.raises(ArtifactCorrupt, match=r"selection.json: classes.0.class_id .*; delete it"):
        open_retrieval(root)
    write_report(disk_place)
    assert open_retrieval(root).report.poor_below == 1
