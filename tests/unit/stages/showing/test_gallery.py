"""The gallery is made from whatever exists, and says what is not there yet."""

from __future__ import annotations

from react_ray.pairs.retrieval import NOT_THERE, open_retrieval
from react_ray.report.class_gallery import Gallery
from react_ray.stages.showing.gallery import gallery_of
from react_ray.stages.showing.overview import SavedRecipe
from react_ray.storage import Storage, join
from tests.support.retrieved import (
    PER_PART,
    write_database,
    write_images,
    write_queries,
    write_report,
    write_retrieved,
    write_run,
    write_selected,
)


def made(root: str, recipe: SavedRecipe | None = None) -> Gallery:
    return gallery_of(open_retrieval(root), recipe, "herons")


def test_every_class_is_there_with_its_pairs_and_its_match(place: Storage) -> None:
    found = made(write_run(place))
    assert [len(one.best) for one in found.classes] == [3, 3, 3, 3, 0]
    heron, _, _, flagged, accordion = found.classes
    assert [pair.pair_id for pair in heron.best] == [0, 4, 1048578]
    first = heron.best[0]
    assert (first.key, first.prompt, round(first.score or 0, 3)) == ("text", "a photo of a heron.", 0.9)
    assert first.picture is not None and first.picture[:4] == b"RIFF" and first.others == (found.classes[1].class_name,)
    assert (flagged.flags, flagged.advice, flagged.z) == (["far_away"], ["Try a synonym."], 1.25)
    assert flagged.measures == [("captions that name it", "0%"), ("above the background", "1.2 sd")]
    assert accordion.num_pairs == 0 and ("classes without a pair", "1") in found.facts
    assert found.notes == ["12 pairs for 5 classes"] and found.warnings == []


def test_what_has_no_picture_says_why(disk_place: Storage) -> None:
    write_run(disk_place)
    pairs = {pair.pair_id: pair for one in made(disk_place.uri).classes for pair in one.best}
    assert (pairs[1].picture, pairs[1].status) == (None, "http_404")
    assert (pairs[2].picture, pairs[2].status) == (None, "cannot be shown")


def test_pairs_whose_images_are_still_on_the_web_have_captions_and_links(disk_place: Storage) -> None:
    write_queries(disk_place.uri)
    write_retrieved(disk_place.uri)
    found = made(disk_place.uri)
    pairs = [pair for one in found.classes for pair in one.best]
    assert all(pair.caption and pair.url and pair.status == NOT_THERE for pair in pairs) and len(pairs) == 12
    assert found.warnings == [
        "Of the images, none of the retrieved pairs are there; `react-ray download` fetches them."
    ]
    write_images(disk_place.uri, done=[0])
    assert "1 of 2 parts of the retrieved pairs are there" in made(disk_place.uri).warnings[0]


def test_pairs_that_are_only_selected_get_their_captions_from_the_database(disk_place: Storage) -> None:
    database = join(disk_place.uri, "database")
    write_queries(disk_place.uri)
    write_selected(disk_place.uri)
    alone = made(disk_place.uri)
    assert "here are the ids of pairs alone" in alone.warnings[0] and alone.classes[0].best[0].caption == ""
    assert "ids of pairs alone" in made(disk_place.uri, SavedRecipe("herons", database)).warnings[0]
    write_database(database)
    found = made(disk_place.uri, SavedRecipe("herons", database))
    assert "captions and links, no pictures yet" in found.warnings[0]
    assert found.classes[0].best[1].caption == "a heron 4 " and found.classes[0].best[1].url.endswith("4.jpg?a=1&b=2")


def test_half_of_a_retrieval_is_shown_as_half(disk_place: Storage) -> None:
    write_queries(disk_place.uri)
    write_retrieved(disk_place.uri, done=[1])
    found = made(disk_place.uri)
    assert "1 of 2 parts are done so far" in found.warnings[0]
    assert sum(one.num_pairs for one in found.classes) == PER_PART


def test_random_pairs_are_said_to_be_random(disk_place: Storage) -> None:
    write_queries(disk_place.uri)
    write_retrieved(disk_place.uri, selection="random", keys=["text"])
    found = made(disk_place.uri)
    assert found.warnings[0].startswith("These pairs were drawn at random") and "searched" not in dict(found.facts)


def test_of_a_class_with_many_pairs_the_best_and_the_last_ones_are_shown(disk_place: Storage) -> None:
    write_queries(disk_place.uri)
    write_retrieved(disk_place.uri, num_parts=20)
    [heron, *_] = made(disk_place.uri).classes
    assert heron.num_pairs == 30 and (len(heron.best), len(heron.last)) == (12, 3)
    scores = [pair.score or 0 for pair in [*heron.best, *heron.last]]
    assert scores == sorted(scores, reverse=True) and round(scores[-1], 3) == round(heron.score_min or 0, 3)


def test_of_images_that_are_too_many_to_read_some_parts_are_looked_at(disk_place: Storage) -> None:
    write_queries(disk_place.uri)
    write_retrieved(disk_place.uri, num_parts=6)
    write_images(disk_place.uri, num_parts=6)
    retrieval = open_retrieval(disk_place.uri)
    found = gallery_of(retrieval, None, "herons", most_bytes=disk_place.sizes()["images/part-00000.parquet"] * 2)
    parts = {pair.pair_id >> 20 for one in found.classes for pair in one.best}
    assert len(parts) == 2 and "the pairs come from 2 of its 6 parts, evenly spread" in found.warnings[0]
    assert [one.num_pairs for one in found.classes] == [9, 9, 9, 9, 0]


def test_a_report_of_an_earlier_version_has_no_match(disk_place: Storage) -> None:
    write_run(disk_place)
    disk_place.write("selection.json", b'{"pairs": 12, "classes": [{"class_id": 0, "pairs": 3}], "poor": []}')
    assert all(not one.flags and one.z is None for one in made(disk_place.uri).classes)
    write_report(disk_place)
    assert any(one.flags for one in made(disk_place.uri).classes)
