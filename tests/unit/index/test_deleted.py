"""Deleted pairs: small files, on disk and on S3; every kind of shard leaves them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from react_ray.errors import ConfigError
from react_ray.index.config import IndexConfig, SearchParams
from react_ray.index.deleted import delete_pairs, deleted_pairs, read_ids
from react_ray.index.quantizer import train
from react_ray.index.shard import IndexShard, build_shard
from react_ray.storage import Storage
from tests.support.vector_database import clustered


def test_deletions_add_up_and_the_same_again_changes_nothing(place: Storage) -> None:
    assert len(deleted_pairs(place.uri)) == 0
    assert delete_pairs(place.uri, np.array([7, 3, 3])) == 2
    assert delete_pairs(place.uri, np.array([3, 7])) == 2
    assert delete_pairs(place.uri, np.array([1 << 40])) == 3
    assert delete_pairs(place.uri, np.empty(0, np.int64)) == 3
    assert deleted_pairs(place.uri).tolist() == [3, 7, 1 << 40]


def test_ids_come_from_a_text_file_and_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("5\n\n 1048577 \r\n")
    assert read_ids(str(path)).tolist() == [5, 1048577]
    for wrong in ("-1", "x", "1.5", str(2**63)):
        path.write_text(f"5\n{wrong}\n")
        with pytest.raises(ConfigError, match="line 2"):
            read_ids(str(path))


@pytest.mark.parametrize("kind", ["flat", "IVF8,SQ8", "HNSW8", "ivf-sq8", "RaBitQfs,Refine(SQ8)"])
def test_no_kind_of_shard_returns_what_is_deleted_and_k_hits_are_k(kind: str) -> None:
    config = IndexConfig(kind=kind, num_lists=8)
    vectors, queries = clustered(500, 16, seed=0), clustered(12, 16, seed=1).astype(np.float32)
    quantizer = train(vectors.astype(np.float32), config, seed=0)
    whole = build_shard(iter([(np.arange(500), vectors)]), config, quantizer).to_bytes()
    wide = SearchParams(nprobe=8, ef_search=200)
    before = IndexShard.from_bytes(whole).search(queries, 20, wide)
    deleted = np.unique(before.pair_ids[:, :10])
    after = IndexShard.from_bytes(whole, deleted).search(queries, 20, wide)
    assert not np.isin(after.pair_ids, deleted).any() and after.valid.all()
    for q in range(12):  # those that stay keep their order
        kept = before.pair_ids[q][~np.isin(before.pair_ids[q], deleted)]
        assert np.isin(kept, after.pair_ids[q]).mean() > 0.9
