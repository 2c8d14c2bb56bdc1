"""A narrowed shard finds what one finds that was opened without the excluded pairs; the first one still finds all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from react_ray.index.allowed import Allowed
from react_ray.index.config import IndexConfig, SearchParams
from react_ray.index.list_index import ListIndex
from react_ray.index.list_shard import coarse_quantizer
from react_ray.index.merge import Hits
from react_ray.index.quantizer import train
from react_ray.index.shard import IndexShard, build_shard
from react_ray.pair_id import pair_ids
from tests.support.list_shards import write_shard
from tests.support.vector_database import unit_vectors

NUM, DIM, K = 3000, 16, 20
IDS, VECTORS, QUERIES = pair_ids(0, NUM), unit_vectors(NUM, DIM, 1), unit_vectors(9, DIM, 2).astype(np.float32)
FEW, MANY = np.arange(NUM) % 40 == 0, np.arange(NUM) % 3 != 0
KINDS = {"flat": SearchParams(), "ivf-sq8": SearchParams(nprobe=4), "HNSW16": SearchParams(ef_search=64)}


def allowing(mask: np.ndarray) -> Allowed:
    bits = Allowed()
    bits.add(0, mask)
    return bits


def same(found: Hits, wanted: Hits) -> bool:
    return np.array_equal(found.pair_ids, wanted.pair_ids) and np.array_equal(found.scores, wanted.scores)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("mask", [FEW, MANY, np.zeros(NUM, bool), None], ids=["few", "many", "none", "all"])
def test_a_narrowed_shard_is_one_without_the_excluded_pairs(kind: str, mask: np.ndarray | None) -> None:
    config = IndexConfig(kind=kind, num_lists=8)
    payload = build_shard(iter([(IDS, VECTORS)]), config, train(VECTORS.astype(np.float32), config, seed=0)).to_bytes()
    allowed, deleted, params = None if mask is None else allowing(mask), IDS[5::7], KINDS[kind]
    whole = IndexShard.from_bytes(payload)
    before = whole.search(QUERIES, K, params)
    narrowed = whole.narrowed(deleted, allowed)
    wanted = IndexShard.from_bytes(payload, deleted, allowed)
    assert same(narrowed.search(QUERIES, K, params), wanted.search(QUERIES, K, params))
    assert narrowed.filtered == wanted.filtered
    assert same(whole.search(QUERIES, K, params), before)
    again = whole.narrowed(deleted).narrowed(None, allowed)
    assert same(again.search(QUERIES, K, params), wanted.search(QUERIES, K, params))


@pytest.mark.parametrize("params", [SearchParams(nprobe=4, k_factor=4.0), SearchParams(nprobe=4)])
def test_a_narrowed_index_of_lists_too(tmp_path: Path, params: SearchParams) -> None:
    quantizer = train(VECTORS.astype(np.float32), IndexConfig(kind="ivf-rabitq", num_lists=8), seed=0)
    assert quantizer is not None
    files = [write_shard(tmp_path, quantizer, IDS, VECTORS)]
    whole, deleted = ListIndex(files, coarse_quantizer(quantizer)), IDS[5::7]
    before = whole.search(QUERIES, K, params)
    for allowed in (None, allowing(FEW), allowing(MANY)):
        wanted = ListIndex(files, coarse_quantizer(quantizer), deleted, allowed).search(QUERIES, K, params)
        assert same(whole.narrowed(deleted, allowed).search(QUERIES, K, params), wanted)
    assert same(whole.search(QUERIES, K, params), before)
