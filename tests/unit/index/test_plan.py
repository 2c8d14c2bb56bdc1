"""The plan of an index: a pure function with the figures that were measured, and errors before anything starts."""

from __future__ import annotations

import pytest

from react_ray.errors import ConfigError
from react_ray.index.config import FLAT, IVF_RABITQ, IVF_SQ8, IndexConfig
from react_ray.index.plan import lists_for, plan_index


def test_small_databases_are_exact_and_large_ones_coded() -> None:
    auto = IndexConfig()
    assert plan_index(5000, 512, auto, 10).kind == FLAT
    assert plan_index(10**6, 512, auto, 10).kind == IVF_RABITQ
    assert plan_index(10**6, 512, IndexConfig(recall=0.999), 10).kind == FLAT
    assert plan_index(10**7, 512, IndexConfig(recall=0.999), 10).kind == IVF_RABITQ  # 19 GB do not fit into 8
    assert plan_index(10**6, 512, IndexConfig(kind="HNSW32"), 10).kind == "HNSW32"


def test_lists_grow_with_the_square_root_of_the_vectors() -> None:
    assert [lists_for(n) for n in (40, 10**6, 10**7, 10**9, 10**11)] == [10, 4096, 16384, 131072, 262144]


def test_a_million_vectors_cost_what_faiss_takes() -> None:
    plan = plan_index(10**6, 512, IndexConfig(kind=IVF_RABITQ, num_shards=1), 10)
    assert 120e6 < plan.hot_bytes < 140e6 and plan.cold_bytes == 520e6
    assert plan_index(10**6, 512, IndexConfig(kind=IVF_SQ8, num_shards=1), 10).hot_bytes == 520e6 + 4096 * 2048


def test_memory_of_a_build_bounds_a_shard_whatever_the_number_of_vectors() -> None:
    for num in (10**6, 10**7, 10**9):
        plan = plan_index(num, 512, IndexConfig(kind=IVF_RABITQ, memory_gb=1000), 10**6)
        assert plan.build_bytes < 2 * 2**30
        assert plan.num_shards == 1 or plan.build_bytes > 2**29
    assert plan_index(10**9, 512, IndexConfig(kind=IVF_RABITQ, memory_gb=1000), 7).num_shards == 7


def test_what_one_process_holds_does_not_grow_with_the_shards_that_it_joins() -> None:
    """What kind fits is what is built: a billion vectors in hundreds of shards, or one more than are exact by
    default."""
    plan = plan_index(10**9, 512, IndexConfig(memory_gb=130), 10**5)
    assert plan.kind == IVF_RABITQ and plan.num_shards > 500 and plan.hot_bytes < 130 * 2**30
    assert plan_index(200_000, 512, IndexConfig(memory_gb=0.3), 10).kind == IVF_RABITQ


def test_what_is_printed_names_kind_shards_memory_disk_and_time() -> None:
    first, second = plan_index(10**6, 512, IndexConfig(kind=IVF_RABITQ), 10).lines()
    assert "ivf-rabitq, 4,096 lists over 1,000,000 vectors of dimension 512" in first and "shards" in first
    assert "GB of memory to search" in second and "GB of disk" in second and "core-seconds" in second
    _, both = plan_index(10**6, 512, IndexConfig(kind=IVF_RABITQ), 10).lines(2, metadata_bytes=2**30)
    assert "index: 2 x 0.13 GB of memory to search, 2.14 GB of disk" in both


def test_what_does_not_fit_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="raise it"):
        plan_index(10**9, 512, IndexConfig(memory_gb=1), 10)
    with pytest.raises(ConfigError, match=r"index\.memory_gb is 1; raise it"):
        plan_index(10**7, 512, IndexConfig(kind=FLAT, memory_gb=1), 10)
    with pytest.raises(ConfigError, match="no vectors"):
        plan_index(0, 512, IndexConfig(), 10)
