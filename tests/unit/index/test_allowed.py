"""Searching among the pairs that are allowed: k hits come back, the same that searching them alone gives."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.index.allowed import Allowed
from react_ray.index.config import IndexConfig, SearchParams
from react_ray.index.exact import RunningTopK
from react_ray.index.quantizer import train
from react_ray.index.sample import RunningSample
from react_ray.index.search_shards import search_shards
from react_ray.index.shard import IndexShard, build_shard
from react_ray.pair_id import ROW_BITS

DIM, PART_ROWS, PARTS = 16, 700, 3


def vectors(count: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


POOL = [(np.arange(PART_ROWS, dtype=np.int64) | part << ROW_BITS, vectors(PART_ROWS, part)) for part in range(PARTS)]
QUERIES = vectors(9, 99).astype(np.float32)


def random_bits(share: float) -> tuple[Allowed, list[np.ndarray]]:
    bits = Allowed()
    masks = [np.random.default_rng(7 + part).random(PART_ROWS) < share for part in range(PARTS)]
    for part, mask in enumerate(masks):
        bits.add(part, mask)
    return bits, masks


def test_contains_is_the_mask_and_minus_one_is_in_nothing() -> None:
    bits, masks = random_bits(0.3)
    ids = np.concatenate([ids for ids, _ in POOL])
    assert np.array_equal(bits.contains(ids), np.concatenate(masks))
    assert bits.count == sum(mask.sum() for mask in masks) and bits.num_rows == PARTS * PART_ROWS
    assert np.array_equal(bits.rows(1), masks[1])
    unknown = np.array([[-1, 9 << ROW_BITS], [PART_ROWS, PART_ROWS | 2 << ROW_BITS]])
    assert not bits.contains(unknown).any()


@pytest.mark.parametrize("share", [0.5, 0.02, 0.0])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_a_filtered_search_equals_a_search_of_what_is_allowed(share: float, k: int) -> None:
    bits, masks = random_bits(share)
    shard = build_shard(iter(POOL), IndexConfig(kind="flat"), None)
    hits = IndexShard.from_bytes(shard.to_bytes(), allowed=bits).search(QUERIES, k)
    exact = RunningTopK(k)
    for (ids, vectors_ND), mask in zip(POOL, masks, strict=True):
        exact.update(QUERIES, ids[mask], vectors_ND[mask])
    assert np.array_equal(hits.pair_ids, exact.result().pair_ids)
    assert np.array_equal(hits.scores, exact.result().scores)


def test_an_index_whose_first_lists_have_too_few_looks_into_more() -> None:
    config = IndexConfig(kind="IVF16,Flat", nprobe=2)
    sample = RunningSample(2000, 0)
    for ids, vectors_ND in POOL:
        sample.update(ids, vectors_ND)
    bits, _ = random_bits(0.05)
    shard = build_shard(iter(POOL), config, train(sample.result(), config, 0))
    hits = search_shards([IndexShard.from_bytes(shard.to_bytes(), allowed=bits)], QUERIES, 200, SearchParams())
    assert bits.contains(hits.pair_ids[hits.valid]).all()
    assert hits.valid.sum(axis=1).tolist() == [bits.count] * len(QUERIES) and bits.count < 200


@pytest.mark.parametrize("kind", ["IVF16,SQ8", "SQ8", "HNSW16", "PCA8,IVF16,SQ8"])
def test_every_kind_finds_allowed_pairs_alone_and_no_deleted_one(kind: str) -> None:
    """Some can be rid of the others, some are asked for more."""
    config = IndexConfig(kind=kind)
    sample = RunningSample(2000, 0)
    for ids, vectors_ND in POOL:
        sample.update(ids, vectors_ND)
    bits, _ = random_bits(0.3)
    ids = np.concatenate([ids for ids, _ in POOL])
    deleted = ids[::4]
    left = ids[bits.contains(ids) & ~np.isin(ids, deleted)]
    shard = build_shard(iter(POOL), config, train(sample.result(), config, 0))
    filtered = IndexShard.from_bytes(shard.to_bytes(), deleted, bits)
    hits = filtered.search(QUERIES, 50)
    assert hits.valid.all() or (kind == "HNSW16" and hits.valid.mean() > 0.9)  # a graph may end before
    assert np.isin(hits.pair_ids[hits.valid], left).all()
    alone = RunningTopK(50)
    for part_ids, vectors_ND in POOL:
        wanted = np.isin(part_ids, left)
        alone.update(QUERIES, part_ids[wanted], vectors_ND[wanted])
    if kind == "SQ8":
        assert np.isin(hits.pair_ids, alone.result().pair_ids).mean() > 0.9
    everything = filtered.search(QUERIES[:2], len(ids))
    if kind != "HNSW16":
        assert [sorted(row[row >= 0]) for row in everything.pair_ids] == [sorted(left)] * 2
    none = IndexShard.from_bytes(shard.to_bytes(), None, Allowed()).search(QUERIES, 5)
    assert not none.valid.any()
