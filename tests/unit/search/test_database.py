"""A database is searched in this process, with and without an index, by sentences, images and vectors."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from react_ray import open_database
from react_ray.clip.embedder import Embedder
from react_ray.errors import ArtifactMissing, BackboneError, ConfigError, ReactRayError, RetrievalError
from react_ray.gated.load import load_backbone
from react_ray.index.deleted import delete_pairs
from react_ray.pair_id import pair_ids
from react_ray.search.database import Hit, OpenDatabase
from react_ray.storage import Storage
from tests.support.searchable import ANIMALS, BASE, base_tower, many, png, write_index, write_searchable

APPLE = int(pair_ids(0, 8)[3])


@pytest.fixture(params=["scan", "index", "index and added parts", "index and its delta"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same pairs in four databases."""
    uri, parts = str(tmp_path / "database"), [ANIMALS + many(120), many(90, 200), many(7, 400)]
    if request.param.startswith("index and"):
        write_searchable(uri, parts[:1])
        write_index(uri, num_shards=1)
    write_searchable(uri, parts)
    if request.param == "index":
        write_index(uri)
    if request.param == "index and its delta":
        write_index(uri, num_shards=1, first=1)
    return uri


def exact(uri: str, key: str, query_D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pair_ids, scores) of all pairs that have a vector, best first, by one product in float64."""
    database = open_database(uri)
    ids = np.concatenate([pair_ids(part, receipt.rows) for part, receipt in enumerate(database.embeddings.receipts())])
    scores = database.vectors(ids.tolist(), key).astype(np.float64) @ query_D.astype(np.float16).astype(np.float64)
    ids, scores = ids[np.isfinite(scores)], scores[np.isfinite(scores)].astype(np.float32)
    order = np.lexsort((ids, -scores))
    return ids[order], scores[order]


def named(hits: list[Hit]) -> list[tuple[int, float]]:
    """What does not depend on how many queries were asked at once; `z` does, in its last digits."""
    return [(hit.pair_id, hit.score) for hit in hits]


@pytest.mark.parametrize("key", ["image", "text"])
def test_hits_are_the_exact_best(uri: str, key: str) -> None:
    [query_D] = base_tower().embed_texts(["a shiny red apple"])
    hits = open_database(uri).search("a shiny red apple", 30, key)
    ids, scores = exact(uri, key, query_D)
    assert [hit.pair_id for hit in hits] == ids[:30].tolist()
    assert [hit.score for hit in hits] == scores[:30].tolist()
    assert {hit.key for hit in hits} == {key}


def test_a_hit_has_its_caption_and_its_url_and_a_z_score(uri: str) -> None:
    database = open_database(uri)
    hit = database.search("a red apple", 1, "text")[0]
    assert (hit.pair_id, hit.caption, hit.url) == (APPLE, "a red apple", f"http://e.org/{APPLE}.jpg")
    [query_D] = base_tower().embed_texts(["a red apple"])
    _, scores = exact(uri, "text", query_D)
    assert hit.z == pytest.approx((hit.score - scores.mean()) / scores.std(), rel=1e-3) and hit.z > 3
    assert hit.as_dict()["caption"] == "a red apple"


def test_captions_are_compared_first_unless_the_user_prefers_images_or_asks_with_one(uri: str) -> None:
    database = open_database(uri)
    assert database.keys == ("text", "image")
    assert named(database.search("a red apple", 5)) == named(database.search("a red apple", 5, "text"))
    assert OpenDatabase(uri, keys=["image"]).keys == ("image", "text")


def test_both_keys_are_ranked_by_z_and_a_pair_comes_once(uri: str) -> None:
    database = open_database(uri)
    hits = database.search("a red apple", 12, "both")
    assert len({hit.pair_id for hit in hits}) == 12 and {hit.key for hit in hits} == {"image", "text"}
    assert [hit.z for hit in hits] == sorted((hit.z for hit in hits), reverse=True)
    assert hits[0].pair_id == APPLE


def test_deleted_pairs_are_not_found(uri: str) -> None:
    delete_pairs(uri, np.array([APPLE]))
    hits = open_database(uri).search("a red apple", 225, "text")
    assert len(hits) == 224 and APPLE not in {hit.pair_id for hit in hits}


def test_several_queries_of_all_kinds_at_once(uri: str) -> None:
    database = open_database(uri)
    [apple_D] = base_tower().embed_texts(["a red apple"])
    found = database.search(["a red apple", apple_D, apple_D.tolist(), 3 * apple_D.astype(np.float64)], 4, "text")
    assert [named(hits) for hits in found] == [named(found[0])] * 4
    assert list(map(named, database.search(np.stack([apple_D, apple_D]), 4, "text"))) == [named(found[0])] * 2
    assert named(database.search(apple_D, 4, "text")) == named(found[0])
    own = database.search(database.vectors([APPLE], "text"), 1, "text")
    assert own[0][0].pair_id == APPLE and own[0][0].score == pytest.approx(1, abs=1e-3)


def test_an_image_is_embedded_by_the_whole_model(tmp_path: Path) -> None:
    uri = str(tmp_path / "database")
    model = load_backbone(BASE)
    write_searchable(uri, [many(120)], **{"weights_sha256": model.weights_sha256})
    data = png(tmp_path)
    pixels, _ = (embedder := Embedder(model, 1, "cpu")).decode([data])
    database = open_database(uri)
    expected = named(database.search(embedder.embed_images(pixels)[0], 5, "image"))
    assert named(database.search(data, 5, "image")) == named(database.search(data, 5)) == expected
    assert named(database.search(tmp_path / "image.png", 5, "image")) == expected
    assert named(database.search(Image.open(io.BytesIO(data)), 5, "image")) == expected
    with pytest.raises(ConfigError, match="image 1 of the query cannot be decoded"):
        database.search(b"no image")


def test_rows_and_images_by_their_ids(tmp_path: Path) -> None:
    uri, image = str(tmp_path / "database"), png(tmp_path)
    write_searchable(uri, [ANIMALS, many(5)], image)
    database = open_database(uri)
    ids = [int(pair_ids(1, 5)[4]), 2, 3]
    table = database.pairs(ids)
    assert table["pair_id"].to_pylist() == ids and table["width"].to_pylist() == [number % 100 for number in ids]
    assert database.pairs(ids, ["caption"]).column_names == ["pair_id", "caption"]
    assert database.images(ids) == [image, image, None]
    assert database.pairs([]).num_rows == 0 and database.images([]) == [] and database.vectors([]).shape == (0, 128)
    for wrong in (-1, 8, 2 << 20, 5 + (1 << 20)):
        with pytest.raises(RetrievalError, match=f"has no pair {wrong}; take the pair_id of a hit"):
            database.pairs([2, wrong])


def test_a_small_database_says_nothing_about_z(tmp_path: Path) -> None:
    write_searchable(str(tmp_path / "database"), [ANIMALS])
    database = open_database(str(tmp_path / "database"))
    assert [hit.z for hit in database.search("a horse", 3, "text")] == [None] * 3
    assert len(database.search("a horse", 50, "both")) == 8


def test_without_images_the_error_says_so(tmp_path: Path) -> None:
    write_searchable(str(tmp_path / "database"), [ANIMALS])
    with pytest.raises(ArtifactMissing, match="no finished images here; run `react-ray download RECIPE` first"):
        open_database(str(tmp_path / "database")).images([0])


@pytest.mark.parametrize(
    "query, said",
    [
        ("  ", "the query is empty"),
        ([], "there is no query"),
        (np.zeros(128), "null or not finite"),
        (np.full(128, np.nan), "null or not finite"),
        (np.ones(64), r"a query has shape \[64\], the database has vectors of dimension 128"),
        (object(), "is no query; give a sentence, an image"),
        (["a horse", None], "is no query|has shape"),
    ],
)
def test_what_is_no_query_is_one_line(tmp_path: Path, query: object, said: str) -> None:
    write_searchable(str(tmp_path / "database"), [ANIMALS])
    with pytest.raises(ReactRayError, match=said):
        open_database(str(tmp_path / "database")).search(query)


def test_wrong_k_and_keys(tmp_path: Path) -> None:
    write_searchable(str(tmp_path / "database"), [ANIMALS])
    database = open_database(str(tmp_path / "database"))
    with pytest.raises(ConfigError, match="k is 0; ask for at least 1"):
        database.search("a horse", 0)
    with pytest.raises(ConfigError, match="key='caption' is none of image, text, both"):
        database.search("a horse", 1, "caption")


def test_a_side_without_any_vector_says_which_other_can_be_searched(tmp_path: Path) -> None:
    write_searchable(str(tmp_path / "database"), [ANIMALS[:1]])  # whose only pair has no image
    database = open_database(str(tmp_path / "database"))
    assert database.keys == ("text",) and database.search("a heron", 3)[0].key == "text"
    assert [hit.key for hit in database.search("a heron", 3, "both")] == ["text"]
    with pytest.raises(RetrievalError, match="no vectors of image keys; search key=text, or embed them"):
        database.search("a heron", 3, "image")


def test_another_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_searchable(str(tmp_path / "database"), [ANIMALS], text_sha256="0" * 64)
    with pytest.raises(BackboneError, match=r"was embedded by sample://.*other weights; search a RECIPE, or pass"):
        open_database(str(tmp_path / "database")).search("a horse")


def test_on_any_storage(place: Storage) -> None:
    write_searchable(place.uri, [ANIMALS, many(100)])
    write_index(place.uri)
    database = open_database(place.uri)
    assert isinstance(database, OpenDatabase)
    assert database.search("a banana", 1, "text")[0].caption == "a banana"
