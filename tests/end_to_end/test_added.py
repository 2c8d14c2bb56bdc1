"""Files that are added to a source: ingest, download, embed and index work on them alone and keep the older parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.artifact import Artifact, open_artifact
from react_ray.errors import ArtifactMismatch, ArtifactMissing
from react_ray.index.config import SearchParams
from react_ray.index.search_shards import search_shards
from react_ray.index.shards import deltas, open_shards, shard_places
from react_ray.kinds import KINDS
from react_ray.pairs.image_urls import find_urls
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages import download, embed, index, ingest, retrieve
from react_ray.storage import open_storage
from react_ray.uri import SAMPLE_DIR
from react_ray.vectors import from_vectors
from tests.support.s3_server import s3_server
from tests.support.small_run import contents, react_ray, small_recipe
from tests.support.url_list import QUICK, misbehaving, write_list
from tests.support.vector_database import clustered
from tests.support.web import web_server

pytestmark = pytest.mark.usefixtures("local_ray")
BACKBONE = {"name": "sample://base_clip.json", "pretrained": "sample://base_clip.safetensors"}
VERBS = (ingest.run, embed.run, index.run)
Files = dict[str, tuple[bytes, int]]


def recipe_of(folder: Path, **changes: Any) -> str:
    source = {"source": str(folder / "source"), "rows_per_part": 20}
    return small_recipe(folder, ingest=source, arms={}, **changes)


def drawings(first: int, num_rows: int) -> pa.Table:
    return pq.read_table(SAMPLE_DIR / "pool.parquet", columns=["image", "caption"]).slice(first, num_rows)


def add(folder: Path, name: str, first: int, num_rows: int) -> None:
    (folder / "source").mkdir(parents=True, exist_ok=True)
    pq.write_table(drawings(first, num_rows), folder / "source" / name, row_group_size=15)


def begun(folder: Path, *verbs: Callable[[Recipe], Artifact], **changes: Any) -> Recipe:
    """A database of the first 50 drawings: parts of 20, 20 and 10."""
    add(folder, "a.parquet", 0, 50)
    recipe = load_recipe(recipe_of(folder, **changes))
    for verb in verbs:
        verb(recipe)
    return recipe


def of(recipe: Recipe, kind: str) -> Artifact:
    return open_artifact(f"{recipe.database}/{kind}", KINDS[kind])


def rows(artifact: Artifact) -> list[int]:
    return [receipt.rows for receipt in artifact.receipts()]


def files(recipe: Recipe, pattern: str = "*") -> Files:
    """Bytes and time of each file of the database."""
    root = Path(recipe.database)
    found = [path for path in root.rglob(pattern) if path.is_file()]
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def test_only_what_was_added_is_worked_on_and_it_is_found(tmp_path: Path) -> None:
    recipe = begun(tmp_path, *VERBS, backbone=BACKBONE)
    whole, before = files(recipe), files(recipe, "part-*") | files(recipe, "*.faiss")
    for verb in VERBS:
        verb(recipe)
    assert files(recipe) == whole, "the same source is nothing to do"
    add(tmp_path, "b.parquet", 50, 30)
    ingest.run(recipe)
    with pytest.raises(
        ArtifactMissing, match=r"embeddings has 3 parts, .*/pairs 5: pairs were added; run `react-ray embed"
    ):
        retrieve.run(recipe)
    embed.run(recipe)
    with pytest.raises(
        ArtifactMissing, match=r"index is without 2 parts that were added to .*/embeddings; run `react-ray index"
    ):
        retrieve.run(recipe)
    index.run(recipe)
    after = files(recipe)
    assert {name: after[name] for name in before} == before
    assert [rows(of(recipe, kind)) for kind in ("pairs", "images", "embeddings")] == [[20, 20, 10, 20, 10]] * 3
    images = pa.concat_tables(of(recipe, "images").tables(["image", "caption"]))
    assert images.to_pylist() == drawings(0, 80).to_pylist()
    base = of(recipe, "index")
    (delta,) = deltas(base)
    assert sorted(base.facts.covers) == ["0", "1", "2"] and sorted(delta.facts.covers) == ["3", "4"]
    new = of(recipe, "embeddings").read(3, ["pair_id", "image"])
    found = search_shards(
        open_shards(shard_places(base, "image")), from_vectors(new["image"]).astype(np.float32), 1, SearchParams()
    )
    np.testing.assert_array_equal(found.pair_ids[:, 0], new["pair_id"].to_numpy())
    assert delta.receipt(0).rows + delta.receipt(1).rows == 30


@pytest.mark.slow
def test_a_database_on_s3_grows_as_one_on_disk(tmp_path: Path) -> None:
    recipe = begun(tmp_path, *VERBS, backbone=BACKBONE)
    with s3_server():
        boto3.client("s3").create_bucket(Bucket="web")
        places = ["ingest.source=s3://web/source/*.parquet", "database=s3://web/database", "out=s3://web/run"]
        path = recipe_of(tmp_path, backbone=BACKBONE)
        there = load_recipe(path, places)
        for name in ("a.parquet", "b.parquet"):
            if name == "b.parquet":
                add(tmp_path, name, 50, 30)
            open_storage("s3://web").write(f"source/{name}", (tmp_path / "source" / name).read_bytes())
            for verb in ("ingest", "embed", "index"):
                done = react_ray(verb, path, *places)  # a process of its own: this one's Ray began without a server
                assert done.returncode == 0, done.stderr[-2000:]
        for verb in VERBS:
            verb(recipe)
        for kind in ("pairs", "images", "embeddings"):
            assert rows(of(there, kind)) == [20, 20, 10, 20, 10] and of(there, kind).content == of(recipe, kind).content
        assert (
            [one.content for one in deltas(of(there, "index"))]
            == [one.content for one in deltas(of(recipe, "index"))]
            != []
        )


def killed_as_it_began(grown: Path, database: Path) -> None:
    """pairs knows of its new parts, nobody else does, and none is there."""
    shutil.copy(grown / "pairs/_building.json", database / "pairs")
    (database / "pairs/manifest.json").unlink()


def killed_before_the_last_part(grown: Path, database: Path) -> None:
    """Of the new parts the first alone is there; embed, too, had begun with them."""
    shutil.copytree(grown, database, dirs_exist_ok=True)
    for kind in ("pairs", "images", "embeddings"):
        (database / kind / "manifest.json").unlink()
        (database / kind / "part-00004.json").unlink()


def killed_between_seals(grown: Path, database: Path) -> None:
    shutil.copytree(grown, database, dirs_exist_ok=True)
    (database / "images/manifest.json").unlink()


def test_a_growth_that_was_killed_goes_on_also_if_yet_more_was_added(tmp_path: Path) -> None:
    database, first, grown = tmp_path / "database", tmp_path / "first", tmp_path / "grown"
    recipe = begun(tmp_path, ingest.run)
    shutil.copytree(database, first)
    add(tmp_path, "b.parquet", 50, 30)
    ingest.run(recipe)
    ingested = contents(recipe.database, recipe.out)
    embed.run(recipe)
    once = contents(recipe.database, recipe.out)
    shutil.copytree(database, grown)
    for kill in (killed_as_it_began, killed_between_seals):
        shutil.rmtree(database)
        shutil.copytree(first, database)
        kill(grown, database)
        ingest.run(recipe)
        found = contents(recipe.database, recipe.out)
        assert {kind: found[kind] for kind in ingested} == ingested
    add(tmp_path, "c.parquet", 80, 25)
    shutil.rmtree(database)
    killed_before_the_last_part(grown, database)
    done = files(recipe, "part-*.json")
    ingest.run(recipe)
    embed.run(recipe)
    after = files(recipe, "part-*.json")
    assert {name: after[name] for name in done} == done, "what was committed was done again"
    assert [rows(of(recipe, kind)) for kind in ("pairs", "images", "embeddings")] == [[20, 20, 10, 20, 10, 20, 5]] * 3
    assert {kind: of(recipe, kind).content_of(5) for kind in ("pairs", "images", "embeddings")} == {
        kind: once[f"database/{kind}"] for kind in ("pairs", "images", "embeddings")
    }
    images = pa.concat_tables(of(recipe, "images").tables(["image", "caption"]))
    assert images.to_pylist() == drawings(0, 105).to_pylist()


def test_what_is_not_behind_the_old_rows_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    recipe = begun(tmp_path, ingest.run)
    before = files(recipe)
    refused = (
        r"first 50 rows of .*source, which now has 60 and no longer the same files.*sort behind.*another `database`"
    )
    add(tmp_path, "0.parquet", 50, 10)
    with pytest.raises(ArtifactMismatch, match=refused):
        ingest.run(recipe)
    (tmp_path / "source/0.parquet").unlink()
    add(tmp_path, "a.parquet", 0, 60)
    with pytest.raises(ArtifactMismatch, match=refused):
        ingest.run(recipe)
    add(tmp_path, "a.parquet", 0, 40)
    with pytest.raises(ArtifactMismatch, match="which now has 40"):
        ingest.run(recipe)
    add(tmp_path, "a.parquet", 0, 50)
    add(tmp_path, "b.parquet", 50, 10)
    with pytest.raises(ArtifactMismatch, match="rows_per_part was 20, now 30"):
        ingest.run(load_recipe(recipe_of(tmp_path), ["ingest.rows_per_part=30"]))
    assert files(recipe) == before


@pytest.mark.parametrize("fused", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_only_urls_that_were_added_are_asked(tmp_path: Path, fused: bool) -> None:
    with web_server() as web:
        urls = misbehaving(web, 70)
        write_list(tmp_path / "source/a.csv", urls[:50])
        settings = {**QUICK, "image_size": 32, "fused": fused}
        recipe = load_recipe(recipe_of(tmp_path, download=settings))
        fetch = embed.run if fused else download.run
        ingest.run(recipe)
        fetch(recipe)
        before = files(recipe, "part-*")
        write_list(tmp_path / "source/b.csv", urls[50:])
        ingest.run(recipe)
        assert find_urls(of(recipe, "images")) is not None, "pairs that are ahead still know the URLs of these images"
        fetch(recipe)
    after = files(recipe)
    assert {name: after[name] for name in before} == before
    for kind in ("pairs", "images", *["embeddings"] * fused):
        assert rows(of(recipe, kind)) == [20, 20, 10, 20]
    assert pa.concat_tables(of(recipe, "pairs").tables(["caption"]))["caption"][50].as_py() == "picture 0"


def test_vectors_that_were_published_since_are_added(tmp_path: Path) -> None:
    vectors = [clustered(50, 16, seed) for seed in (0, 1)]
    columns = {
        name: pa.array(list(side), pa.list_(pa.float16()))
        for name, side in zip(("image_vec", "text_vec"), vectors, strict=True)
    }
    published = pa.table({"caption": drawings(0, 50)["caption"], **columns})
    (tmp_path / "source").mkdir()
    recipe = load_recipe(
        recipe_of(tmp_path), ["ingest.image_vector_column=image_vec", "ingest.text_vector_column=text_vec"]
    )
    for name, part in (("a.parquet", published.slice(0, 30)), ("b.parquet", published.slice(30))):
        pq.write_table(part, tmp_path / "source" / name)
        ingest.run(recipe)
    assert rows(of(recipe, "embeddings")) == rows(of(recipe, "pairs")) == [20, 10, 20]
    found = from_vectors(pa.concat_tables(of(recipe, "embeddings").tables(["image"]))["image"])
    np.testing.assert_allclose(found.astype(np.float32), vectors[0].astype(np.float32), atol=1e-3)
