"""embed as a user runs it: modes, parts that are corrupt, kills, images that come from the web in the same pipeline."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import ray._private.state
from safetensors.numpy import load_file, save_file

from react_ray.artifact import Artifact, open_artifact
from react_ray.errors import ArtifactMismatch, ConfigError, PartFailed
from react_ray.kinds import KINDS
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages import download, embed, ingest
from react_ray.stages.retrieval.database import open_database
from react_ray.stages.retrieval.embed_queries import embed_queries
from react_ray.stages.retrieval.search import Ask, search
from react_ray.stages.retrieval.searchers import Searchers, SearchPlan
from react_ray.vectors import from_vectors
from tests.support.small_run import small_recipe
from tests.support.url_list import list_recipe, misbehaving
from tests.support.web import Web, web_server


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as server:
        yield server


ROWS, ROWS_PER_PART = 240, 20


def small(folder: Path, *overrides: str, rows: int = ROWS) -> Recipe:
    source = {"source": "sample://pool.parquet", "max_rows": rows, "rows_per_part": ROWS_PER_PART}
    return load_recipe(small_recipe(folder, ingest=source), list(overrides))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Recipe:
    """An undisturbed run, with a linear head, against which others are compared."""
    folder = tmp_path_factory.mktemp("embedded")
    weight = np.random.default_rng(0).normal(size=(1, 16)).astype(np.float32)
    save_file({"weight": weight, "bias": np.float32([0.5])}, folder / "safety.safetensors")
    recipe = small(folder, f"embed.heads.safety={folder}/safety.safetensors")
    ingest.run(recipe)
    embed.run(recipe)
    return recipe


def of(recipe: Recipe, kind: str = "embeddings") -> Artifact:
    return open_artifact(f"{recipe.database}/{kind}", KINDS[kind])


def column(artifact: Artifact, name: str) -> list[Any]:
    return pa.concat_tables(artifact.tables([name]))[name].to_pylist()


def vectors(artifact: Artifact, key: str) -> np.ndarray:
    return from_vectors(pa.concat_tables(artifact.tables([key]))[key])


def test_the_manifest_says_which_model_made_the_vectors_and_no_other_may_go_on(embedded: Recipe) -> None:
    facts = of(embedded).facts
    assert facts.dim == facts.backbone["dim"] == 16 and facts.dtype == "float16"
    pinned = {"name", "tag", "weights_sha256", "text_sha256", "image_size", "mean", "std", "precision", "crop"}
    assert facts.backbone.keys() >= pinned
    other = embedded.model_copy(update={"embed": embedded.embed.model_copy(update={"precision": "bf16"})})
    with pytest.raises(ArtifactMismatch, match=r"backbone\.precision was 'fp32', now 'bf16'"):
        embed.run(other)
    with pytest.raises(ArtifactMismatch, match=r"weights_sha256 was"):
        embed.run(embedded.model_copy(update={"seed": 1}))  # random weights of another seed
    head = Path(embedded.embed.heads["safety"])
    bytes_before = head.read_bytes()
    try:
        save_file({"weight": np.ones((1, 16), np.float32)}, head)
        with pytest.raises(ArtifactMismatch, match=r"config\.heads\.safety was"):
            embed.run(embedded)
    finally:
        head.write_bytes(bytes_before)


def test_similarity_and_heads_are_columns_beside_the_vectors(embedded: Recipe) -> None:
    made = of(embedded)
    image_ND, text_ND = (vectors(made, key).astype(np.float32) for key in ("image", "text"))
    assert np.isfinite(image_ND).all()
    similarity_N = np.array(column(made, "similarity"), np.float32)
    captioned = np.isfinite(similarity_N)
    np.testing.assert_allclose(similarity_N[captioned], (image_ND * text_ND).sum(axis=1)[captioned], atol=1e-6)
    weight = load_file(embedded.embed.heads["safety"])["weight"][0]
    np.testing.assert_allclose(column(made, "safety"), image_ND @ weight + 0.5, atol=1e-5)


def test_queries_of_another_text_tower_are_refused(embedded: Recipe, tmp_path: Path) -> None:
    other = embed_queries(str(tmp_path / "queries"), embedded.tasks, "separate", embedded.backbone, seed=1)
    plan = SearchPlan(open_database(embedded), None, embedded.index, embedded.cluster)
    with (
        pytest.raises(ArtifactMismatch, match="name the backbone that embedded the database"),
        Searchers(plan) as searchers,
    ):
        search(Ask(str(tmp_path / "hits"), other, 10), ["text"], searchers)


def test_captions_need_no_images_and_a_corrupt_part_is_put_aside_in_its_place(
    embedded: Recipe, tmp_path: Path, local_ray: None
) -> None:
    recipe = small(tmp_path, "embed.images=false", rows=60)
    ingest.run(recipe)
    shutil.rmtree(tmp_path / "database/images")
    cut, flipped = (tmp_path / f"database/pairs/part-0000{part}.parquet" for part in (0, 2))
    cut.write_bytes(cut.read_bytes()[:500])
    data = bytearray(flipped.read_bytes())
    data[60] ^= 1
    flipped.write_bytes(data)
    with pytest.raises(PartFailed, match=r"part [02] failed 3 times.*part-0000[02]\.parquet.*run the "):
        embed.run(recipe)
    assert not (tmp_path / "database/embeddings/manifest.json").exists()
    made = embed.run(recipe, skip_corrupt=True)
    assert column(made, "status") == ["corrupt"] * 20 + ["ok"] * 20 + ["corrupt"] * 20
    assert column(made, "pair_id") == column(of(embedded), "pair_id")[:60]
    assert list(made.facts.quarantined) == ["part-00000", "part-00002"]
    assert "part-00002.parquet" in made.facts.quarantined["part-00002"]
    assert vectors(made, "text")[20:40].tobytes() == vectors(of(embedded), "text")[20:40].tobytes()
    assert np.isnan(vectors(made, "image")).all() and set(column(made, "similarity")) == {None}


def test_a_killed_actor_changes_no_vector(embedded: Recipe, tmp_path: Path) -> None:
    recipe = small(tmp_path).model_copy(update={"embed": embedded.embed})
    for kind in ("pairs", "images"):
        shutil.copytree(of(embedded, kind).uri, tmp_path / "database" / kind)
    victims: list[int] = []
    ended, others = threading.Event(), embedding_processes()  # those of a stage before may live for a while
    killer = threading.Thread(target=kill_the_actor, args=(tmp_path / "database/embeddings", ended, others, victims))
    killer.start()
    try:
        made = embed.run(recipe)
    finally:
        ended.set()
        killer.join()
    assert len(victims) == 1 and made.content == of(embedded).content


def embedding_processes() -> set[int]:
    actors = ray._private.state.actors().values()
    return {actor["Pid"] for actor in actors if actor["State"] == "ALIVE" and "MapWorker" in actor["ActorClassName"]}


def kill_the_actor(done: Path, ended: threading.Event, others: set[int], victims: list[int]) -> None:
    """kill -9 of the process that holds the model, once it has committed a part."""
    while not ended.wait(0.002):
        if any(done.glob("part-*.json")):
            [process] = embedding_processes() - others
            os.kill(process, signal.SIGKILL)
            victims.append(process)
            return


@pytest.mark.parametrize("kept", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_fetching_in_the_same_pipeline_gives_the_vectors_of_the_stages_one_by_one(
    web: Web, tmp_path: Path, local_ray: None, kept: bool
) -> None:
    urls = misbehaving(web, 120)
    apart = load_recipe(list_recipe(tmp_path / "apart", urls, 40))
    ingest.run(apart)
    (images,) = download.run(apart)
    expected = embed.run(apart)
    fused = load_recipe(list_recipe(tmp_path / "fused", urls, 40, fused=True, keep_images=kept))
    ingest.run(fused)
    made = embed.run(fused)
    assert made.content == expected.content and 0 < made.manifest.ok < 120
    assert embed.run(fused).content == made.content
    assert not kept or of(fused, "images").content == images.content
    assert kept or (fused.download.of == "retrieved" and not Path(fused.database, "images").exists())


def test_a_source_with_images_has_nothing_to_fetch(tmp_path: Path, local_ray: None) -> None:
    recipe = small(tmp_path, "download.fused=true", rows=20)
    ingest.run(recipe)
    with pytest.raises(ArtifactMismatch, match=r"nothing to fetch; set download\.fused=false"):
        embed.run(recipe)


def test_nothing_to_embed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing would be embedded"):
        small(tmp_path, "embed.images=false", "embed.captions=false")
