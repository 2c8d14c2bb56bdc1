"""The image vectors of retrieved pairs: those of the database, or, where it has none, made of the retrieved images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.embedder import Embedder
from react_ray.draft import create
from react_ray.errors import ConfigError
from react_ray.gated.load import load_backbone
from react_ray.kinds import EMBEDDINGS, IMAGES, MODEL, QUERIES, RETRIEVED, EmbeddingsFacts
from react_ray.pair_id import pair_ids
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.cluster import on_demand
from react_ray.stages.training.image_vectors import ImageVectors, image_vectors
from react_ray.stages.training.stored_vectors import make_head
from react_ray.storage import open_storage
from react_ray.training.head_file import HEAD_FILE, Head, read_head
from react_ray.vectors import embeddings_table, from_vectors
from tests.support.retrieved import PER_PART, write_run
from tests.support.small_run import small_recipe

ARMS = "{knn: {customize.method: knn}, cache: {customize.method: cache}}"
WITHOUT_VECTOR = [1, 2]  # rows of each part: an image that was not fetched, and one that cannot be decoded


def given(folder: Path, *changes: str) -> Recipe:
    write_run(open_storage(str(folder)))
    return load_recipe(small_recipe(folder / "other"), [f"out={folder}", f"arms={ARMS}", *changes])


def write_embeddings(recipe: Recipe, image_ND: np.ndarray, **config: Any) -> None:
    """image_ND: float16, NaN where a pair has no vector."""
    made = create(f"{recipe.database}/embeddings", EMBEDDINGS, config, {}, 2)
    nothing_ND = np.full((PER_PART, image_ND.shape[1]), np.nan, np.float16)
    for part in range(2):
        rows = slice(part * PER_PART, (part + 1) * PER_PART)
        status = np.array(["ok"] * PER_PART, object)
        ids = pa.array(pair_ids(part, PER_PART))
        made.commit(part, embeddings_table(ids, image_ND[rows], nothing_ND, status, {}), 0.1)
    made.seal(EmbeddingsFacts({"name": "made"}, image_ND.shape[1]))


def images_of(recipe: Recipe) -> Artifact[Any]:
    return open_artifact(f"{recipe.out}/images", IMAGES)


def vectors_of(recipe: Recipe, arm: str) -> ImageVectors:
    """As a command does it: so few images need no Ray."""
    with on_demand(recipe.cluster):
        return image_vectors(recipe, arm, images_of(recipe))


def column(found: ImageVectors, part: int) -> pa.ChunkedArray:
    return found.of_part(part, pair_ids(part, PER_PART))


def expected(recipe: Recipe, part: int) -> np.ndarray:
    embedder = Embedder(load_backbone(recipe.backbone, seed=recipe.seed), 64, "cpu")
    images = images_of(recipe).read(part)["image"].to_pylist()
    good = [image for row, image in enumerate(images) if row not in WITHOUT_VECTOR]
    return embedder.embed_images(embedder.decode(good)[0])


@pytest.mark.parametrize("config", [{"images": False}, {"published": {}}])
def test_a_database_without_image_vectors_has_the_retrieved_images_embedded_once_for_all_arms(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    recipe = given(tmp_path)
    write_embeddings(recipe, np.full((2 * PER_PART, 16), np.nan, np.float16), **config)
    found = vectors_of(recipe, "knn")
    for part in range(2):
        vectors = column(found, part)
        assert [row for row in range(PER_PART) if not vectors[row].is_valid] == WITHOUT_VECTOR
        np.testing.assert_allclose(from_vectors(vectors.drop_null()), expected(recipe, part), atol=1e-3)
    assert found.embeddings.uri == f"{tmp_path}/image_vectors"
    again = vectors_of(recipe, "cache")
    assert again.embeddings.content == found.embeddings.content and again.embeddings.uri == found.embeddings.uri


def test_a_database_with_image_vectors_is_looked_up(tmp_path: Path) -> None:
    recipe = given(tmp_path)
    stored_ND = np.random.default_rng(0).standard_normal((2 * PER_PART, 16)).astype(np.float16)
    write_embeddings(recipe, stored_ND, images=True)
    found = vectors_of(recipe, "knn")
    np.testing.assert_array_equal(from_vectors(found.of_part(0, pair_ids(1, PER_PART)[::-1])), stored_ND[:5:-1])
    assert not (tmp_path / "image_vectors").exists()


def test_a_head_is_the_same_from_either_place(tmp_path: Path) -> None:
    recipe = given(tmp_path)
    write_embeddings(recipe, np.full((2 * PER_PART, 16), np.nan, np.float16), images=False)
    made_ND = np.full((2 * PER_PART, 16), np.nan, np.float16)
    of_retrieved = vectors_of(recipe, "knn")
    for part in range(2):
        vectors = column(of_retrieved, part)
        made_ND[part * PER_PART + np.flatnonzero(np.asarray(vectors.is_valid()))] = from_vectors(vectors.drop_null())
    open_storage(f"{recipe.database}/embeddings").delete_all()
    write_embeddings(recipe, made_ND, images=True)
    heads = [head_of(recipe, found, name) for name, found in (("a", of_retrieved), ("b", vectors_of(recipe, "knn")))]
    assert heads[0].tensors.keys() == heads[1].tensors.keys() >= {"keys", "key_classes"}
    for name, tensor in heads[0].tensors.items():
        np.testing.assert_array_equal(tensor, heads[1].tensors[name])
    assert len(heads[0].tensors["keys"]) == 2 * (PER_PART - len(WITHOUT_VECTOR))


def test_pairs_without_any_vector_are_refused(tmp_path: Path) -> None:
    recipe = given(tmp_path)
    nothing_ND = np.full((2 * PER_PART, 16), np.nan, np.float16)
    write_embeddings(recipe, nothing_ND, images=True)
    found = open_artifact(f"{recipe.database}/embeddings", EMBEDDINGS)
    with pytest.raises(ConfigError, match=r"method=knn: no retrieved pair has both a class and an image .*; retrieve"):
        head_of(recipe, ImageVectors(found, of_database=True), "none")


def head_of(recipe: Recipe, found: ImageVectors, name: str) -> Head:
    model = create(f"{recipe.out}/{name}/model", MODEL, {}, {}, 1)
    retrieved, queries = (open_artifact(f"{recipe.out}/{kind.name}", kind) for kind in (RETRIEVED, QUERIES))
    config = recipe.arm("knn").customize
    info = {"backbone": {"name": "made"}, "method": "knn"}
    make_head(model, retrieved, found, queries, config, 0, info, {"class_weight_C": None, "card": {}}, "")
    return read_head(f"{recipe.out}/{name}/model/{HEAD_FILE}")
