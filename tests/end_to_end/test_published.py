"""Published vectors enter by ingest, are not embedded again, and leave in the layout that they came in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.cli import main
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.kinds import PAIRS
from react_ray.pairs.export.vectors import export_vectors
from react_ray.pairs.source import IngestConfig, open_source
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages import embed, ingest
from react_ray.stages.retrieval.database import open_database
from react_ray.stages.retrieval.embed_queries import embed_queries
from react_ray.stages.retrieval.search import Ask, search
from react_ray.stages.retrieval.searchers import Searchers, SearchPlan
from react_ray.vectors import from_vectors
from tests.support.small_run import small_recipe
from tests.unit.pairs.test_published import read

DIM, COUNTS = 16, [900, 350]


def unit(seed: int) -> np.ndarray:
    vector_ND = np.random.default_rng(seed).normal(size=(sum(COUNTS), DIM))
    return (vector_ND / np.linalg.norm(vector_ND, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clip-retrieval's layout, two shards; rows 3 and 1000 have no image vector."""
    folder = tmp_path_factory.mktemp("laion")
    images, texts = unit(0), unit(1)
    images[[3, 1000]] = 0
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir()
    first = 0
    for number, count in enumerate(COUNTS):
        rows = slice(first, first + count)
        np.save(folder / f"img_emb/img_emb_{number}.npy", images[rows])
        np.save(folder / f"text_emb/text_emb_{number}.npy", texts[rows])
        numbers = range(first, first + count)
        captions, urls = [f"picture {row}" for row in numbers], [f"http://example.org/{row}" for row in numbers]
        pq.write_table(pa.table({"caption": captions, "url": urls}), folder / f"metadata/metadata_{number}.parquet")
        first += count
    return folder


def recipe_of(folder: Path, source: Path, *overrides: str) -> Recipe:
    return load_recipe(small_recipe(folder, ingest={"source": str(source), "rows_per_part": 500}), list(overrides))


def test_published_vectors_are_a_database_and_are_exported_as_they_came(
    published: Path, tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(tmp_path, published, "download.of=retrieved", "retrieve.search=exact")
    assert ingest.run(recipe).kind == PAIRS
    embeddings = embed.run(recipe)
    assert (embeddings.manifest.rows, embeddings.manifest.ok) == (1250, 1248)
    assert embeddings.facts.backbone["weights_sha256"] == "" and embeddings.facts.dim == DIM
    table = pa.concat_tables(embeddings.tables())
    assert table["pair_id"].to_pylist() == [(row // 500 << 20) + row % 500 for row in range(1250)]
    text_ND = from_vectors(table["text"])
    np.testing.assert_allclose(text_ND.astype(np.float32), unit(1).astype(np.float32), atol=1e-3)
    assert np.flatnonzero(np.isnan(from_vectors(table["image"])).any(axis=1)).tolist() == [3, 1000]
    content = embeddings.content
    assert ingest.run(recipe).kind == PAIRS and embed.run(recipe).content == content

    out = tmp_path / "exported"
    main(["export", "clip-retrieval", f"{recipe.database}/embeddings", str(out), "--rows-per-shard", "600"])
    assert "1248 pairs in 3 shards of clip-retrieval, 2 without a vector" in capsys.readouterr().out
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert files[:3] == [f"img_emb/img_emb_{number}.npy" for number in range(3)] and len(files) == 9
    sizes = [np.load(out / name, mmap_mode="r").shape for name in files[:3]]
    assert sizes == [(600, DIM), (600, DIM), (48, DIM)]
    kept = np.delete(np.arange(1250), [3, 1000])
    exported = np.concatenate([np.load(out / f"text_emb/text_emb_{number}.npy") for number in range(3)])
    assert np.array_equal(exported, text_ND[kept])
    again = open_source(IngestConfig(source=str(out), rows_per_part=500))
    image_ND, _, captions, _ = read(again, DIM)  # the exported similarities prove the order
    assert captions == [f"picture {row}" for row in kept]
    np.testing.assert_allclose(
        image_ND.astype(np.float32), from_vectors(table["image"])[kept].astype(np.float32), atol=1e-3
    )
    with pytest.raises(ConfigError, match="is not empty"):
        export_vectors(f"{recipe.database}/embeddings", str(out))

    queries = embed_queries(str(tmp_path / "queries"), recipe.tasks, "separate", recipe.backbone)
    plan = SearchPlan(open_database(recipe), None, recipe.index, recipe.cluster)
    with Searchers(plan) as searchers:
        assert search(Ask(str(tmp_path / "hits"), queries, 10), recipe.retrieve.keys, searchers).rows > 0
    other = recipe.model_copy(
        update={"backbone": recipe.backbone.model_copy(update={"pretrained": "sample://base_clip.safetensors"})}
    )
    with pytest.raises(ArtifactMismatch, match=r"config\.backbone\.tag was"):
        ingest.run(other)


def test_vectors_of_another_dimension_are_refused_by_name(published: Path, tmp_path: Path, local_ray: None) -> None:
    recipe = recipe_of(tmp_path, published, "backbone.name=ViT-B-32")
    with pytest.raises(ConfigError, match=r"16 dimensions, those of the recipe's backbone 512; set backbone\.name"):
        ingest.run(recipe)
    assert not (Path(recipe.database) / "embeddings/manifest.json").exists()
