"""ivf-rabitq: hot codes propose, cold codes decide; rows lie in list order; what is deleted or not allowed never
comes."""

from __future__ import annotations

import itertools
from pathlib import Path

import faiss
import numpy as np
import pytest

from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ConfigError, RetrievalError
from react_ray.index import cold_codes
from react_ray.index.allowed import Allowed
from react_ray.index.cold_codes import whole_numbers
from react_ray.index.config import IVF_RABITQ, IndexConfig, SearchParams
from react_ray.index.exact import RunningTopK, as_queries
from react_ray.index.list_index import ListIndex, nearest_lists
from react_ray.index.list_shard import FILES, ListShardBuilder, coarse_quantizer
from react_ray.index.merge import Hits, best
from react_ray.index.quantizer import train
from react_ray.index.recall import recall_at_k
from react_ray.index.search_shards import search_apart, search_shards
from tests.support.list_shards import write_shard
from tests.support.vector_database import clustered

NUM, DIM, LISTS = 4000, 32, 16
CONFIG = IndexConfig(kind=IVF_RABITQ, num_lists=LISTS)
HOT, COLD = SearchParams(LISTS, 40.0), SearchParams(LISTS, 0.0)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    made = clustered(NUM, DIM, seed=2)
    made[3000:3040] = made[:40]  # equal vectors: their scores tie
    return made


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(3).permutation(NUM).astype(np.int64) << 12


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return clustered(60, DIM, seed=4, noise=0.9, shift=0.2).astype(np.float32)


@pytest.fixture(scope="module")
def quantizer(vectors: np.ndarray) -> bytes:
    made = train(vectors.astype(np.float32), CONFIG, seed=0)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def coarse(quantizer: bytes) -> faiss.Index:
    return coarse_quantizer(quantizer)


@pytest.fixture(scope="module")
def paths(
    tmp_path_factory: pytest.TempPathFactory, quantizer: bytes, ids: np.ndarray, vectors: np.ndarray
) -> list[str]:
    return write_shard(tmp_path_factory.mktemp("whole"), quantizer, ids, vectors)


@pytest.fixture(scope="module")
def truth(queries: np.ndarray, ids: np.ndarray, vectors: np.ndarray) -> Hits:
    scan = RunningTopK(100)
    scan.update(queries, ids, vectors)
    return scan.result()


def same(a: Hits, b: Hits) -> None:
    np.testing.assert_array_equal(a.pair_ids, b.pair_ids)
    np.testing.assert_array_equal(a.scores, b.scores)


def test_it_finds_what_exact_search_finds(
    paths: list[str], queries: np.ndarray, truth: Hits, coarse: faiss.Index
) -> None:
    shard = ListIndex([paths], coarse)
    assert (shard.num_vectors, shard.dim, shard.num_lists) == (NUM, DIM, LISTS)
    assert recall_at_k(shard.search(queries, 10, HOT), truth, 10) > 0.95
    assert recall_at_k(shard.search(queries, 10, COLD), truth, 10) > 0.95
    assert recall_at_k(shard.search(queries, 100, COLD), truth, 100) > 0.97
    few = recall_at_k(shard.search(queries, 10, SearchParams(1, 10.0)), truth, 10)
    assert few < recall_at_k(shard.search(queries, 10, SearchParams(4, 10.0)), truth, 10)
    assert recall_at_k(shard.search(queries, 10, SearchParams(LISTS, 1.0)), truth, 10) < 0.9


def test_what_is_proposed_is_what_a_search_re_ranks(paths: list[str], queries: np.ndarray, coarse: faiss.Index) -> None:
    shard = ListIndex([paths], coarse)
    _, rows = shard.propose(queries, 60, 4)
    near = Hits(shard.scores(queries, rows), shard.cold.pair_ids(rows))
    for k_factor in (1.0, 2.5, 6.0):
        found = best(near.scores[:, : round(10 * k_factor)], near.pair_ids[:, : round(10 * k_factor)], 10)
        want = shard.search(queries, 10, SearchParams(4, k_factor))
        same(found, want)
    exact = as_queries(queries, DIM)
    _, same_rows = shard.propose(queries, 60, 1, nearest_lists(coarse, exact, 4))
    np.testing.assert_array_equal(same_rows, rows)
    farthest = nearest_lists(coarse, -exact, 1)
    assert not np.isin(shard.propose(queries[:1], 60, 4, farthest[:1])[1], rows[0]).any()
    estimates, rows = shard.propose(queries[:3], 2 * NUM, 1)
    assert estimates.shape == (3, NUM) and (rows < 0).any() and np.isneginf(estimates[rows < 0]).all()


def test_the_files_do_not_depend_on_how_vectors_came(
    tmp_path: Path, paths: list[str], quantizer: bytes, ids: np.ndarray, vectors: np.ndarray
) -> None:
    order = np.random.default_rng(5).permutation(NUM)
    again = write_shard(tmp_path, quantizer, ids[order], vectors[order], step=37)
    for one, other in zip(paths, again, strict=True):
        assert Path(one).read_bytes() == Path(other).read_bytes()


@pytest.mark.parametrize("params", [HOT, SearchParams(3, 2.0), COLD, SearchParams(3, 0.0)])
def test_the_answer_is_the_same_over_any_number_of_shards_and_for_one_query_as_for_many(
    tmp_path: Path,
    paths: list[str],
    quantizer: bytes,
    ids: np.ndarray,
    vectors: np.ndarray,
    queries: np.ndarray,
    params: SearchParams,
    coarse: faiss.Index,
) -> None:
    whole = ListIndex([paths], coarse)
    want = whole.search(queries, 50, params)
    for num_shards in (2, 5):
        shards = [
            write_shard(tmp_path / f"{num_shards}-{s}", quantizer, ids[s::num_shards], vectors[s::num_shards])
            for s in range(num_shards)
        ]
        shards.insert(1, write_shard(tmp_path / f"{num_shards}-empty", quantizer, ids[:0], vectors[:0]))
        joined = ListIndex(shards, coarse)
        assert joined.num_vectors == NUM
        same(joined.search(queries, 50, params), want)
        same(search_apart([[ListIndex([shard], coarse)] for shard in shards], queries, 50, params), want)
    for q in range(0, len(queries), 7):
        same(whole.search(queries[q : q + 1], 50, params), Hits(want.scores[q : q + 1], want.pair_ids[q : q + 1]))


def test_a_list_of_as_many_rows_as_a_block_has_bytes_is_joined_like_any_other(tmp_path: Path) -> None:
    one_list = IndexConfig(kind=IVF_RABITQ, num_lists=1)
    quantizer = train(clustered(500, DIM, seed=8).astype(np.float32), one_list, seed=0)
    assert quantizer is not None
    coarse, vectors, ids = coarse_quantizer(quantizer), clustered(900, DIM, seed=9), np.arange(900)
    whole = [write_shard(tmp_path / "whole", quantizer, ids, vectors)]
    hot = faiss.downcast_index(owner := faiss.read_index(whole[0][0]))
    size = int(faiss.downcast_InvertedLists(hot.invlists).block_size)
    del hot, owner
    assert size < 900
    cuts = [0, size, size, 900]  # FAISS's own merge_from writes behind the end of the first piece, see join_lists
    pieces = [
        write_shard(tmp_path / str(n), quantizer, ids[a:b], vectors[a:b])
        for n, (a, b) in enumerate(itertools.pairwise(cuts))
    ]
    asked = clustered(40, DIM, seed=10).astype(np.float32)
    codes = []
    for shards in (whole, pieces):
        index = ListIndex(shards, coarse)
        lists = faiss.downcast_InvertedLists(index._hot.invlists)
        codes.append(faiss.rev_swig_ptr(lists.get_codes(0), -(-900 // 32) * size).copy())
        same(
            index.search(asked, 20, SearchParams(1, 4.0)),
            ListIndex(whole, coarse).search(asked, 20, SearchParams(1, 4.0)),
        )
    np.testing.assert_array_equal(*codes)


def test_few_queries_are_answered_as_among_many_however_their_rows_are_divided(
    paths: list[str], ids: np.ndarray, queries: np.ndarray, coarse: faiss.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = ListIndex([paths], coarse).narrowed(deleted=np.sort(ids[::3]))
    many = index.search(queries, 50, COLD)
    for at_once in (1 << 19, 7 * DIM, 1):
        monkeypatch.setattr(cold_codes, "CODES_AT_ONCE", at_once)
        same(index.search(queries[:2], 50, COLD), Hits(many.scores[:2], many.pair_ids[:2]))


def test_scores_of_a_scan_are_those_of_the_decoded_vectors_and_of_a_query_in_whole_numbers(
    paths: list[str], quantizer: bytes, queries: np.ndarray, coarse: faiss.Index
) -> None:
    shard = ListIndex([paths], coarse)
    cold = faiss.read_index(paths[1])
    decoded = cold.reconstruct_n(0, NUM).astype(np.float64)
    asked = queries.astype(np.float16).astype(np.float64)
    every = shard.search(queries, NUM, COLD)
    order = np.argsort(every.pair_ids, axis=1)
    by_id = np.take_along_axis(every.scores, order, axis=1)
    want = (asked @ decoded.T)[:, np.argsort(np.load(paths[2]))]
    np.testing.assert_allclose(by_id, want, atol=1e-4)
    whole_QD, worth_Q = whole_numbers(asked)
    assert (whole_QD == np.rint(whole_QD)).all() and (np.abs(whole_QD).sum(axis=1) * 128 <= 2**24).all()
    np.testing.assert_allclose(whole_QD * worth_Q[:, None], asked, atol=np.abs(asked).sum(axis=1).max() / 2**17)
    assert (np.diff(every.scores, axis=1) <= 0).all()
    ties = np.diff(every.scores, axis=1) == 0
    assert ties.any() and (np.diff(every.pair_ids, axis=1)[ties] > 0).all()


@pytest.mark.parametrize("params", [HOT, COLD])
def test_deleted_and_not_allowed_pairs_never_come_and_k_hits_are_k(
    paths: list[str], queries: np.ndarray, params: SearchParams, coarse: faiss.Index
) -> None:
    before = ListIndex([paths], coarse).search(queries, 10, params)
    deleted = np.unique(before.pair_ids[:, :5])
    after = ListIndex([paths], coarse, deleted).search(queries, 10, params)
    assert not np.isin(after.pair_ids, deleted).any() and after.valid.all()
    every_second = Allowed()
    for part in range(NUM >> 8):
        every_second.add(part, np.arange(1 << 20) % (2 << 12) == 0)
    found = ListIndex([paths], coarse, deleted, every_second).search(queries, 10, params)
    assert found.valid.all() and (found.pair_ids % (2 << 12) == 0).all()
    assert not np.isin(found.pair_ids, deleted).any()
    one_list = SearchParams(1, params.k_factor)
    assert search_shards([ListIndex([paths], coarse, deleted, every_second)], queries, 400, one_list).valid.all()
    assert not ListIndex([paths], coarse, None, Allowed()).search(queries, 10, params).valid.any()


@pytest.mark.parametrize("params", [HOT, COLD])
def test_more_hits_than_vectors_are_all_vectors_and_minus_one_never_leaves(
    tmp_path: Path,
    quantizer: bytes,
    vectors: np.ndarray,
    queries: np.ndarray,
    params: SearchParams,
    coarse: faiss.Index,
) -> None:
    few = vectors[:20].copy()
    few[[3, 7]] = np.nan
    shard = ListIndex([write_shard(tmp_path / "few", quantizer, np.arange(20), few)], coarse)
    hits = shard.search(queries, 50, params)
    query, pair_ids, scores, _ = hits.rows()
    assert len(pair_ids) == 18 * len(queries) and set(pair_ids.tolist()) == set(range(20)) - {3, 7}
    assert np.isfinite(scores).all() and np.bincount(query).tolist() == [18] * len(queries)
    empty = ListIndex([write_shard(tmp_path / "empty", quantizer, np.empty(0, np.int64), vectors[:0])], coarse)
    assert not empty.search(queries, 5, params).valid.any()


def test_what_is_not_whole_or_does_not_fit_says_so(
    tmp_path: Path, paths: list[str], quantizer: bytes, vectors: np.ndarray, ids: np.ndarray, coarse: faiss.Index
) -> None:
    for name in FILES[:2]:
        broken = dict(zip(FILES, paths, strict=True))
        whole = Path(broken[name]).read_bytes()
        broken[name] = str(tmp_path / name)
        Path(broken[name]).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ArtifactCorrupt, match=name):
            ListIndex([list(broken.values())], coarse)
    other = write_shard(tmp_path / "other", quantizer, ids[:50], vectors[:50])
    with pytest.raises(ArtifactCorrupt, match="different shards"):
        ListIndex([[other[0], *paths[1:]]], coarse)
    with pytest.raises(ArtifactCorrupt, match="different shards"):
        ListIndex([[*paths[:2], other[2]]], coarse)
    made = train(np.ascontiguousarray(vectors[:, :16], dtype=np.float32), CONFIG, seed=0)
    assert made is not None
    with pytest.raises(ArtifactMismatch, match="its quantiser 16 of 16"):
        ListIndex([paths], coarse_quantizer(made))
    with pytest.raises(RetrievalError, match="same backbone"):
        ListShardBuilder(quantizer).add(ids[:4], vectors[:4, :16])
    with pytest.raises(ConfigError, match=r"16 lists.*10 vectors"):
        train(vectors[:10].astype(np.float32), CONFIG, seed=0)
