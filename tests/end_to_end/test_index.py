"""The index stage on a real Ray: resumed, sharded, on S3, with added parts, deleted pairs and corrupt bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pytest
import ray

from react_ray.artifact import Artifact, open_artifact
from react_ray.draft import create
from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ConfigError, RetrievalError
from react_ray.index.config import SearchParams
from react_ray.index.deleted import delete_pairs, deleted_pairs
from react_ray.index.merge import Hits
from react_ray.index.metadata_files import MetadataFiles
from react_ray.index.recall import recall_at_k
from react_ray.index.search_shards import search_shards
from react_ray.index.shard_cache import ShardCache
from react_ray.index.shards import check_covers, deltas, open_shards, params_for, shard_places
from react_ray.kinds import EMBEDDINGS, EmbeddingsFacts
from react_ray.pair_id import pair_ids
from react_ray.recipe import ClusterConfig, Recipe
from react_ray.runtime.cluster import connected
from react_ray.stages import index
from react_ray.stages.retrieval.scanners import Scanners, search_exactly
from react_ray.stages.retrieval.shard_actors import ShardFanOut
from react_ray.storage import open_storage
from tests.support.s3_server import s3_server
from tests.support.vector_database import clustered, recipe_over, write_database

pytestmark = pytest.mark.usefixtures("ray_with_s3")
CODED = {"kind": "ivf-rabitq", "num_lists": 16, "calibration_queries": 40, "keys": ["image"]}
ALL_LISTS = SearchParams(nprobe=16, k_factor=0.0)
QUERIES = clustered(20, 16, seed=99, noise=0.9, shift=0.2).astype(np.float32)


@pytest.fixture(scope="module")
def ray_with_s3() -> Iterator[None]:
    """A Ray whose workers know an S3 server, because it was there when Ray started."""
    with s3_server(), connected(ClusterConfig(num_cpus=2, object_store_gb=0.3)):
        yield


def embeddings_of(recipe: Recipe) -> Artifact:
    return open_artifact(f"{recipe.database}/embeddings", EMBEDDINGS)


def ask(recipe: Recipe, base: Artifact, k: int = 10, params: SearchParams = ALL_LISTS) -> Hits:
    with ShardFanOut(base, ["image"], recipe.cluster, deleted_pairs(recipe.database)) as shards:
        return shards.search("image", QUERIES, k, params)


def exactly(recipe: Recipe, k: int) -> Hits:
    deleted = deleted_pairs(recipe.database)
    return search_exactly(embeddings_of(recipe), "image", QUERIES, k, recipe.cluster, deleted)


def same(a: Hits, b: Hits) -> None:
    np.testing.assert_array_equal(a.pair_ids, b.pair_ids)
    np.testing.assert_array_equal(a.scores, b.scores)


def assert_classes_survive_a_searcher(recipe: Recipe, base: Artifact) -> None:
    """The best pairs of classes are those of an exact search, and again after all searchers were killed."""
    class_Q, nothing = np.arange(len(QUERIES)) // 5, np.empty(0, np.int64)
    with Scanners(embeddings_of(recipe), recipe.cluster, nothing) as scanners:
        exact = scanners.search_classes("image", QUERIES, class_Q, 40)
    with ShardFanOut(base, ["image"], recipe.cluster, nothing) as shards:
        for _ in range(2):
            found = shards.search_classes("image", QUERIES, class_Q, 40, ALL_LISTS)
            assert np.bincount(found.class_id).tolist() == [40] * 4
            for name in ("class_id", "query", "pair_id", "score"):
                np.testing.assert_array_equal(getattr(found, name), getattr(exact, name))
            for server, _ in shards._pool.shares("image"):
                ray.kill(server)


def test_a_flat_index_over_any_shards_is_exact_search_and_knows_additions_and_deletions_at_once(tmp_path: Path) -> None:
    database = str(tmp_path / "database")
    write_database(database, 4, 150)
    answers = []
    for num_shards in (1, 3):
        recipe = recipe_over(database, tmp_path, kind="flat", num_shards=num_shards, keys=["image"])
        open_storage(f"{database}/index").delete_all()
        base = index.run(recipe)
        answers.append(ask(recipe, base, 700))
    exact = exactly(recipe, 700)
    assert exact.valid.sum(axis=1).tolist() == [4 * 149] * len(QUERIES)  # one row of each part failed; -1 is no hit
    same(answers[0], exact)
    same(answers[1], exact)
    with ShardFanOut(base, ["image"], recipe.cluster, deleted_pairs(database), here=True) as shards:
        same(shards.search("image", QUERIES, 700, ALL_LISTS), exact)
    assert_classes_survive_a_searcher(recipe, base)
    write_database(database, 6, 150, first=4)
    assert index.run(recipe).content == base.content and len(deltas(base)) == 1
    assert index.run(recipe).content == base.content and len(deltas(base)) == 1
    grown = exactly(recipe, 10)
    assert (grown.pair_ids >> 20 >= 4).any()
    same(ask(recipe, base), grown)
    gone = np.unique(grown.pair_ids[:, :4])
    delete_pairs(database, gone)
    left = ask(recipe, base)
    assert left.valid.all() and not np.isin(left.pair_ids, gone).any()
    same(left, exactly(recipe, 10))
    compacted = index.compact(recipe)
    assert not deltas(compacted) and compacted.facts.rows["image"] == 6 * 149 - len(gone)
    same(ask(recipe, compacted), left)


def test_a_delta_that_was_killed_goes_on_and_takes_in_what_was_embedded_since(tmp_path: Path) -> None:
    database = str(tmp_path / "database")
    recipe = recipe_over(database, tmp_path, kind="flat", num_shards=2, keys=["image"])
    write_database(database, 2, 50)
    base = index.run(recipe)
    write_database(database, 4, 50, first=2)
    index.run(recipe)
    (delta,) = deltas(base)
    for name in ("manifest.json", "part-00001.json"):
        delta.storage.delete(name)
    kept = Path(delta.uri, "part-00000.json").stat().st_mtime_ns
    index.run(recipe)
    assert deltas(base)[0].content == delta.content and Path(delta.uri, "part-00000.json").stat().st_mtime_ns == kept
    delta.storage.delete("manifest.json")
    write_database(database, 5, 50, first=4)
    index.run(recipe)
    assert [sorted(one.facts.covers) for one in deltas(base)] == [["2", "3", "4"]]
    same(ask(recipe, base), exactly(recipe, 10))


def test_a_coded_index_is_the_same_whether_killed_or_not_and_on_s3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_over(str(tmp_path / "database"), tmp_path, num_shards=2, **CODED)
    write_database(recipe.database, 4, 300)
    built = index.run(recipe)
    storage = open_storage(built.uri)
    for name in ("manifest.json", "part-00001.json", "image-00001.hot.faiss", "calibration.parquet"):
        storage.delete(name)  # as a kill before the second shard was committed leaves it
    resumed = index.run(recipe)
    assert (resumed.content, resumed.facts) == (built.content, built.facts)
    boto3.client("s3").create_bucket(Bucket="database")
    there = recipe_over("s3://database/web", tmp_path, num_shards=2, **CODED)
    write_database(there.database, 4, 300)
    remote = index.run(there)
    assert "16 lists over 1,200 vectors of dimension 16, 2 shards" in capsys.readouterr().err
    assert (remote.content, remote.facts) == (built.content, built.facts)
    places = shard_places(remote, "image")
    found = search_shards(open_shards(places), QUERIES, 10, ALL_LISTS)
    same(found, ask(recipe, built))
    assert not any(name.endswith(".arrow") for name in remote.storage.list())  # index.metadata is off by default


def test_metadata_lies_beside_the_shards_and_a_target_recall_is_reached(tmp_path: Path) -> None:
    changes = {"num_shards": 2, "calibration_k": 10_000, "metadata": True}
    recipe = recipe_over(str(tmp_path / "database"), tmp_path, **changes, **CODED)
    write_database(recipe.database, 4, 300)
    built = index.run(recipe)
    files = MetadataFiles(built, ShardCache(str(tmp_path / "cache")))
    for part in range(4):
        rows = pa.Table.from_batches([files.batch(part)])
        np.testing.assert_array_equal(rows["pair_id"].to_numpy(), pair_ids(part, 300))
        assert rows["caption"].to_pylist() == [f"caption {pair}" for pair in rows["pair_id"].to_pylist()]
        assert rows["width"].to_pylist() == [pair % 1000 for pair in rows["pair_id"].to_pylist()]
    assert 4 not in files
    truth = exactly(recipe, 100)
    for k, target in ((10, 0.9), (100, 0.95)):
        params, measured = params_for(built, "image", target, k)
        assert measured >= target
        assert recall_at_k(ask(recipe, built, k, params), truth, k) > target - 0.06  # of 20 queries
    measured_of = {(row["queries"], row["k"]) for row in built.facts.calibration["image"]}
    assert measured_of == {(kind, k) for kind in ("image", "text") for k in (10, 100, 1000)}  # no query has 10,000 hits


def test_what_is_wrong_with_an_index_is_one_line_that_names_it(tmp_path: Path) -> None:
    recipe = recipe_over(str(tmp_path / "database"), tmp_path, num_shards=2, **CODED)
    write_database(recipe.database, 2, 200)
    base = index.run(recipe)
    for name in ("image-00001.cold.faiss", "image-00000.hot.faiss", "image-00001.ids.npy", "quantizer-image.faiss"):
        path = Path(base.uri, name)
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for broken in (whole[: len(whole) // 2], bytes(flipped)):
            path.write_bytes(broken)
            with pytest.raises(ArtifactCorrupt, match=name):
                open_shards(shard_places(base, "image"))
        path.write_bytes(whole)
    with pytest.raises(ArtifactCorrupt, match=r"hot\.faiss"):
        Path(base.uri, "image-00000.hot.faiss").write_bytes(b"")
        ask(recipe, base)
    with pytest.raises(RetrievalError, match="no text keys"):
        shard_places(base, "text")
    with pytest.raises(ArtifactMismatch, match=r"index\.num_lists=16, now 8"):
        index.run(recipe_over(recipe.database, tmp_path, num_shards=2, **CODED | {"num_lists": 8}))
    open_storage(base.uri).delete_all()
    with pytest.raises(ConfigError, match=r"1000 lists.*only 398 vectors"):
        index.run(recipe_over(recipe.database, tmp_path, **CODED | {"num_lists": 1000}))
    assert not open_storage(base.uri).exists("manifest.json")
    assert len(deleted_pairs(recipe.database)) == 0


def test_compacting_keeps_the_kind_and_the_lists_whatever_would_be_planned_now(tmp_path: Path) -> None:
    database = str(tmp_path / "database")
    recipe = recipe_over(database, tmp_path, num_shards=2, **CODED)
    write_database(database, 3, 200)
    base = index.run(recipe)
    write_database(database, 5, 200, first=3)
    index.run(recipe)
    now = recipe_over(database, tmp_path, num_shards=2, **CODED | {"kind": "auto", "num_lists": 0})
    before = ask(recipe, base)
    with pytest.raises(ConfigError, match=r"index\.memory_gb"):
        index.compact(recipe_over(database, tmp_path, num_shards=2, **CODED | {"memory_gb": 1e-6}))
    same(ask(recipe, base), before)  # nothing was taken away for a plan that cannot be
    compacted = index.compact(now)
    assert (compacted.facts.kind, compacted.facts.num_lists) == ("ivf-rabitq", 16)
    assert not deltas(compacted) and compacted.facts.rows["image"] == 5 * 199
    same(ask(recipe, compacted), before)


@pytest.mark.parametrize("left", ["everything", "some parts"])
def test_a_compaction_that_was_killed_goes_on_with_whatever_verb_comes_next(tmp_path: Path, left: str) -> None:
    recipe = recipe_over(str(tmp_path / "database"), tmp_path, kind="flat", num_shards=3, keys=["image"])
    write_database(recipe.database, 3, 20)
    base = index.run(recipe)
    write_database(recipe.database, 5, 20, first=3)
    index.run(recipe)
    base.storage.write("compacting.json", json.dumps(base.facts.settled).encode())
    gone = {"everything": [], "some parts": ["manifest.json", "_building.json", "part-00000.json"]}
    for name in gone[left]:
        base.storage.delete(name)
    built = index.run(recipe)
    assert not deltas(built) and built.facts.rows["image"] == 5 * 19
    assert sorted(built.facts.covers) == ["0", "1", "2", "3", "4"]
    assert not base.storage.exists("compacting.json") and not base.storage.exists("settled.json")
    same(ask(recipe, built), exactly(recipe, 10))


def test_an_index_of_other_vectors_is_not_searched(tmp_path: Path) -> None:
    recipe = recipe_over(str(tmp_path / "database"), tmp_path, kind="flat", keys=["image"])
    write_database(recipe.database, 2, 20)
    built = index.run(recipe)
    check_covers(built, embeddings_of(recipe))
    shutil.rmtree(tmp_path / "database/embeddings")
    shutil.rmtree(tmp_path / "database/pairs")
    write_database(recipe.database, 2, 21)
    with pytest.raises(
        ArtifactMismatch, match=r"covers another content of part 0 .*; delete the index and build it again"
    ):
        check_covers(built, embeddings_of(recipe))
    shutil.rmtree(tmp_path / "database/embeddings")
    other = create(f"{recipe.database}/embeddings", EMBEDDINGS, {}, {}, 0).seal(
        EmbeddingsFacts({"name": "another"}, 16)
    )
    with pytest.raises(ArtifactMismatch, match="of another model"):
        check_covers(built, other)


def test_a_side_without_any_vector_says_so(tmp_path: Path) -> None:
    recipe = recipe_over(str(tmp_path / "database"), tmp_path, kind="flat", keys=["image"])
    write_database(recipe.database, 1, 1)  # its only image failed
    with pytest.raises(RetrievalError, match="every row failed"):
        index.run(recipe)
