"""A floor that rises as lists are scanned leaves no hit out, whatever the queries want of it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from react_ray.cancellation import Cancelled, in_thread
from react_ray.index import cold_scan
from react_ray.index.allowed import Allowed
from react_ray.index.class_hits import Classes, reduce_hits
from react_ray.index.config import IVF_RABITQ, IndexConfig, SearchParams
from react_ray.index.list_index import ListIndex
from react_ray.index.list_shard import coarse_quantizer
from react_ray.index.quantizer import train
from tests.support.list_shards import write_shard
from tests.support.vector_database import clustered

NUM, DIM, LISTS = 6000, 32, 64


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ListIndex:
    vectors = clustered(NUM, DIM, seed=5)
    vectors[4000:5000] = vectors[:1000]  # equal vectors: their scores tie
    quantizer = train(vectors.astype(np.float32), IndexConfig(kind=IVF_RABITQ, num_lists=LISTS), seed=0)
    assert quantizer is not None
    folder: Path = tmp_path_factory.mktemp("shards")
    ids = np.random.default_rng(6).permutation(NUM).astype(np.int64)
    shards = [write_shard(folder / f"{s}", quantizer, ids[s::3], vectors[s::3]) for s in range(3)]
    return ListIndex(shards, coarse_quantizer(quantizer))


@pytest.mark.parametrize("nprobe", [2, 20, LISTS])
@pytest.mark.parametrize("narrow", [False, True])
def test_the_first_k_are_those_of_all(index: ListIndex, nprobe: int, narrow: bool) -> None:
    queries_QD = clustered(40, DIM, seed=7, noise=0.9, shift=0.2).astype(np.float32)
    if narrow:
        every_third = Allowed()
        every_third.add(0, np.arange(NUM) % 3 == 0)
        index = index.narrowed(np.arange(0, NUM, 7), every_third)
    every = index.search(queries_QD, NUM, SearchParams(nprobe))  # of which there are not k, so that no floor rises
    for k in (1, 10, 100, 500):
        hits = index.search(queries_QD, k, SearchParams(nprobe))
        np.testing.assert_array_equal(hits.pair_ids, every.pair_ids[:, :k])
        np.testing.assert_array_equal(hits.scores, every.scores[:, :k])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("narrow", [False, True])
def test_the_best_of_a_class_are_those_among_all_hits(
    index: ListIndex, seed: int, narrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(seed)
    queries_QD = clustered(40, DIM, seed=seed, noise=0.9, shift=0.2).astype(np.float32)
    queries_QD[20:30] = queries_QD[:10]  # equal queries: the first of a class counts
    classes = Classes(np.sort(random.permutation(100)[:40]), random.integers(0, random.integers(1, 30), 40))
    if narrow:
        index = index.narrowed(np.arange(0, NUM, 7))
    nprobe, most = int(random.choice([1, 3, 20, LISTS])), int(random.choice([1, 10, 300, NUM]))
    found = index.search_classes(queries_QD, classes, most, nprobe)
    monkeypatch.setattr(cold_scan, "KEPT_AT_ONCE", 900)
    for other in (
        reduce_hits(index.search(queries_QD, most, SearchParams(nprobe)), classes, most),
        index.search_classes(queries_QD, classes, most, nprobe),  # in blocks of few classes
    ):
        for name in ("class_id", "pair_id", "score", "query"):
            np.testing.assert_array_equal(getattr(found, name), getattr(other, name), name)


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_scan_that_nobody_waits_for_ends(index: ListIndex, is_cancelled: bool) -> None:
    queries_QD, begun, may = clustered(40, DIM, seed=8).astype(np.float32), Event(), Event()
    ended: list[str] = []

    def work() -> None:
        begun.set()
        may.wait()
        try:
            index.search(queries_QD, 50, SearchParams(8))
        except Cancelled:
            ended.append("cancelled")
        else:
            ended.append("searched")

    async def ask() -> None:
        with ThreadPoolExecutor(2) as threads:
            asked = asyncio.create_task(in_thread(threads, work))
            await asyncio.get_running_loop().run_in_executor(threads, begun.wait)
            if is_cancelled:
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked
            may.set()

    asyncio.run(ask())
    assert ended == ["cancelled" if is_cancelled else "searched"]


def test_queries_of_several_blocks_are_answered_as_in_one(index: ListIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    queries_QD = clustered(40, DIM, seed=8).astype(np.float32)
    whole = index.search(queries_QD, 50, SearchParams(8))
    monkeypatch.setattr(cold_scan, "KEPT_AT_ONCE", 900)  # three queries
    np.testing.assert_array_equal(index.search(queries_QD, 50, SearchParams(8)).pair_ids, whole.pair_ids)
