"""Flat shards, merged shards and exact search without an index are the same search."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.errors import ArtifactCorrupt, ConfigError, RetrievalError
from react_ray.index.config import IndexConfig, SearchParams
from react_ray.index.exact import RunningTopK
from react_ray.index.merge import NO_PAIR, Hits, merge
from react_ray.index.quantizer import train
from react_ray.index.recall import recall_at_k
from react_ray.index.sample import RunningSample
from react_ray.index.shard import IndexShard, build_shard
from react_ray.pair_id import pair_ids as ids_of_part
from tests.support.vector_database import unit_vectors

FLAT = IndexConfig(kind="flat")
IVF = IndexConfig(kind="IVF16,SQ8", nprobe=4)


def tied_vectors(num: int, dim: int, seed: int) -> np.ndarray:
    """Few distinct integer vectors: most scores tie exactly."""
    return np.random.default_rng(seed).integers(-1, 2, (num, dim)).astype(np.float16)


def naive(queries: np.ndarray, ids: np.ndarray, vectors: np.ndarray, k: int) -> Hits:
    """One query and one vector at a time, in Python's exact integers of 2**-48."""
    scores = np.full((len(queries), k), -np.inf, np.float32)
    found = np.full((len(queries), k), NO_PAIR, np.int64)
    whole = np.round(vectors.astype(np.float64) * 2**24).astype(np.int64).astype(object)
    asked = np.round(queries.astype(np.float16).astype(np.float64) * 2**24).astype(np.int64).astype(object)
    for q, query in enumerate(asked):
        score = (whole @ query / 2**48).astype(np.float32)
        order = sorted(range(len(ids)), key=lambda i: (-score[i], ids[i]))[:k]
        scores[q, : len(order)], found[q, : len(order)] = score[order], ids[order]
    return Hits(scores, found)


def split(ids: np.ndarray, vectors: np.ndarray, num_shards: int) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    return [[(ids[s::num_shards], vectors[s::num_shards])] for s in range(num_shards)]


def same(a: Hits, b: Hits) -> None:
    np.testing.assert_array_equal(a.pair_ids, b.pair_ids)
    np.testing.assert_array_equal(a.scores, b.scores)


@pytest.mark.parametrize("make", [unit_vectors, tied_vectors])
@pytest.mark.parametrize("k", [1, 7, 60])
def test_top_k_over_shards_equals_the_naive_answer_ids_and_ties_included(make, k: int) -> None:
    vectors, queries = make(400, 12, seed=0), make(9, 12, seed=1).astype(np.float32)
    ids = np.random.default_rng(2).permutation(400).astype(np.int64) << 20
    truth = naive(queries, ids, vectors, k)
    for num_shards in (1, 3, 8):
        shards = [build_shard(iter(parts), FLAT, None) for parts in split(ids, vectors, num_shards)]
        same(merge([shard.search(queries, k) for shard in shards], k), truth)
    for step in (1000, 37):
        scan = RunningTopK(k)
        for start in range(0, 400, step):
            scan.update(queries, ids[start : start + step], vectors[start : start + step])
        same(scan.result(), truth)


@pytest.mark.parametrize("make", [unit_vectors, tied_vectors])
def test_a_large_flat_shard_that_searches_in_float32_first_equals_the_exact_scan(make) -> None:
    vectors, queries = make(6000, 24, seed=3), make(40, 24, seed=4).astype(np.float32)
    vectors[1000:1200] = vectors[:200]  # duplicated captions
    ids = ids_of_part(5, 6000)[::-1].copy()
    scan = RunningTopK(20)
    scan.update(queries, ids, vectors)
    same(build_shard(iter([(ids, vectors)]), FLAT, None).search(queries, 20), scan.result())


def test_one_query_gets_the_same_answer_as_in_a_batch() -> None:
    vectors, queries = unit_vectors(3000, 32, seed=5), unit_vectors(30, 32, seed=6).astype(np.float32)
    shard = build_shard(iter([(np.arange(3000), vectors)]), FLAT, None)
    batch = shard.search(queries, 10)
    for q in range(30):
        same(shard.search(queries[q : q + 1], 10), Hits(batch.scores[q : q + 1], batch.pair_ids[q : q + 1]))


def test_coded_shards_with_one_quantiser_equal_one_index() -> None:
    vectors, queries = unit_vectors(2000, 16, seed=7), unit_vectors(20, 16, seed=8).astype(np.float32)
    vectors[500:900] = vectors[100:500]
    ids = np.random.default_rng(9).permutation(2000).astype(np.int64)
    quantizer = train(vectors.astype(np.float32), IVF, seed=0)
    whole = build_shard(iter([(ids, vectors)]), IVF, quantizer).search(queries, 15)
    for num_shards in (2, 5):
        shards = [build_shard(iter(parts), IVF, quantizer) for parts in split(ids, vectors, num_shards)]
        same(merge([shard.search(queries, 15) for shard in shards], 15), whole)


def test_rows_that_failed_never_enter_and_minus_one_never_leaves() -> None:
    vectors = unit_vectors(6, 8, seed=10)
    vectors[[1, 4]] = np.nan
    shard = build_shard(iter([(np.arange(6), vectors)]), FLAT, None)
    scan = RunningTopK(10)
    scan.update(vectors[:1].astype(np.float32), np.arange(6), vectors)
    assert shard.num_vectors == 4
    for hits in (shard.search(vectors[:1].astype(np.float32), 10), scan.result()):
        query, pairs, scores, rank = hits.rows()
        assert sorted(pairs.tolist()) == [0, 2, 3, 5]
        assert query.tolist() == [0] * 4 and rank.tolist() == [0, 1, 2, 3]
        assert np.isfinite(scores).all() and (np.diff(scores) <= 0).all()
        assert hits.valid.sum() == 4


@pytest.mark.parametrize(
    "kind", ["flat", "IVF16,SQ8", "HNSW8", "PCA4,IVF4,SQ8", "IVF4,Flat,RFlat", "RaBitQfs,Refine(SQ8)"]
)
def test_a_shard_comes_back_from_its_bytes_and_the_bytes_are_deterministic(kind: str, tmp_path) -> None:
    config = IndexConfig(kind=kind)
    vectors = unit_vectors(600, 8, seed=11)
    queries = unit_vectors(5, 8, seed=12).astype(np.float32)
    shards = []
    for _ in range(2):
        quantizer = train(vectors.astype(np.float32), config, seed=3)
        shards.append(build_shard(iter([(ids_of_part(2, 600), vectors)]), config, quantizer))
    assert shards[0].to_bytes() == shards[1].to_bytes()
    shards[0].write(tmp_path / "shard")
    found = shards[0].search(queries, 5)
    assert (found.pair_ids >> 20 == 2).all()
    for again in (
        IndexShard.from_bytes(shards[0].to_bytes()),
        IndexShard.read(tmp_path / "shard"),
        IndexShard.read(tmp_path / "shard", memory_map=True),
    ):
        same(again.search(queries, 5), found)
        assert (again.num_vectors, again.dim) == (600, 8)


def test_search_parameters_belong_to_the_request_and_change_nothing_in_the_shard() -> None:
    vectors, queries = unit_vectors(2000, 16, seed=13), unit_vectors(50, 16, seed=14).astype(np.float32)
    shard = build_shard(iter([(np.arange(2000), vectors)]), IVF, train(vectors.astype(np.float32), IVF, seed=0))
    before = shard.search(queries, 10)
    shard.search(queries, 10, SearchParams(nprobe=16))
    same(shard.search(queries, 10), before)
    same(shard.search(queries, 10, SearchParams(nprobe=4)), before)


@pytest.mark.parametrize(
    ("kind", "little", "much"),
    [
        ("HNSW4", SearchParams(ef_search=1), SearchParams(ef_search=400)),
        ("PCA8,IVF32,SQ8", SearchParams(nprobe=1), SearchParams(nprobe=32)),
        ("IVF32,Flat,RFlat", SearchParams(nprobe=1), SearchParams(nprobe=32)),
        ("RaBitQfs,Refine(SQ8)", SearchParams(k_factor=1.0), SearchParams(k_factor=40.0)),
    ],
)
def test_every_kind_of_index_obeys_the_parameters_that_it_has(
    kind: str, little: SearchParams, much: SearchParams
) -> None:
    config = IndexConfig(kind=kind)
    vectors, queries = unit_vectors(1500, 16, seed=18), unit_vectors(40, 16, seed=19).astype(np.float32)
    shard = build_shard(iter([(np.arange(1500), vectors)]), config, train(vectors.astype(np.float32), config, seed=0))
    scan = RunningTopK(5)
    scan.update(queries, np.arange(1500), vectors)
    recall = [recall_at_k(shard.search(queries, 5, params), scan.result(), 5) for params in (little, much)]
    assert recall[0] < recall[1]


def test_the_training_sample_does_not_depend_on_order_or_split() -> None:
    vectors = unit_vectors(500, 4, seed=15)
    vectors[7] = np.nan
    one, many = RunningSample(64, seed=1), RunningSample(64, seed=1)
    one.update(np.arange(500), vectors)
    for start in reversed(range(0, 500, 60)):
        many.update(np.arange(start, min(start + 60, 500)), vectors[start : start + 60])
    np.testing.assert_array_equal(one.result(), many.result())
    assert one.result().shape == (64, 4) and np.isfinite(one.result()).all()
    other = RunningSample(64, seed=2)
    other.update(np.arange(500), vectors)
    assert not np.array_equal(one.result(), other.result())


def test_what_cannot_be_meant_says_what_to_do() -> None:
    vectors = unit_vectors(50, 8, seed=16)
    shard = build_shard(iter([(np.arange(50), vectors)]), FLAT, None)
    queries = vectors[:2].astype(np.float32)
    with pytest.raises(RetrievalError, match="k >= 1"):
        shard.search(queries, 0)
    with pytest.raises(RetrievalError, match="dimension 8"):
        shard.search(np.zeros((2, 5), np.float32), 3)
    with pytest.raises(RetrievalError, match="query 1 is not finite"):
        shard.search(np.array([[0.0] * 8, [np.nan] * 8]), 3)
    with pytest.raises(ConfigError, match=r"64 lists.*50 vectors"):
        train(vectors.astype(np.float32), IndexConfig(kind="IVF64,SQ8"), seed=0)
    with pytest.raises(ConfigError, match="Foo12"):
        train(vectors.astype(np.float32), IndexConfig(kind="Foo12"), seed=0)
    with pytest.raises(ConfigError, match=r"quantizer\.train"):
        build_shard(iter([(np.arange(50), vectors)]), IVF, None)
    with pytest.raises(ConfigError, match=r"fewer index\.num_shards"):
        build_shard(iter([]), FLAT, None)
    with pytest.raises(RetrievalError, match="same backbone"):
        build_shard(iter([(np.arange(50), vectors), (np.arange(50), vectors[:, :4])]), FLAT, None)
    with pytest.raises(RetrievalError, match="no shard"):
        merge([], 3)


@pytest.mark.parametrize("kind", ["flat", "IVF4,SQ8"])
def test_a_truncated_shard_is_corrupt_wherever_it_was_cut(kind: str, tmp_path) -> None:
    vectors = unit_vectors(50, 8, seed=17)
    config = IndexConfig(kind=kind)
    whole = build_shard(
        iter([(np.arange(50), vectors)]), config, train(vectors.astype(np.float32), config, 0)
    ).to_bytes()
    for length in (0, 3, 20, 100, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ArtifactCorrupt, match="build it again"):
            IndexShard.from_bytes(whole[:length])
        (tmp_path / "shard").write_bytes(whole[:length])
        with pytest.raises(ArtifactCorrupt, match="build it again"):
            IndexShard.read(tmp_path / "shard")
