"""Searches by blocks of classes in this process: against one NumPy scan, and after a kill in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.draft import create
from react_ray.errors import ShardUnavailable
from react_ray.index.class_hits import ClassHits
from react_ray.index.config import Key
from react_ray.kinds import EMBEDDINGS, INDEX, PAIRS, QUERIES, QueriesFacts
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import on_demand
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.hit_columns import first_of_name
from react_ray.selection.image_agreement import ImageAgreement
from react_ray.selection.select import choose_screened, select
from react_ray.stages.retrieval.compare_pairs import agreement_where_they_lie
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.search import Ask, search
from react_ray.stages.retrieval.search_rounds import Found, search_rounds
from react_ray.stages.retrieval.searchers import Searchers, SearchPlan
from react_ray.vectors import from_vectors
from tests.support.searchable import write_index
from tests.support.vector_database import BACKBONE, clustered, recipe_over, write_database

DIM, NUM_PARTS, ROWS = 16, 3, 50
NAMES = ["owl", "heron", "owl", "stork", "crane"]  # the third counts as the first
NUM_PROMPTS = 3
KEYS: list[Key] = ["image", "text"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    uri = str(tmp_path_factory.mktemp("search") / "database")
    write_database(uri, NUM_PARTS, ROWS, DIM)
    write_index(uri)
    with on_demand(ClusterConfig(num_cpus=2)):
        yield uri


def queries_of(uri: str, seed: int = 0) -> Artifact[QueriesFacts]:
    """Three prompts of each class, and for the last class an image beside them, in an order of ids of its own."""
    random = np.random.default_rng(seed)
    number_Q = [*np.repeat(np.arange(len(NAMES)), NUM_PROMPTS).tolist(), len(NAMES) - 1]
    vectors_QD = clustered(len(number_Q), DIM, 1000 + seed, shift=0.2)
    rows = [
        {
            "query_id": int(query),
            "class_id": number,
            "task": "birds",
            "class_name": NAMES[number],
            "prompt": f"prompt {query} of {NAMES[number]}",
            "modality": "text" if at < len(number_Q) - 1 else "image",
            "embedding": vector.tobytes(),
        }
        for at, (query, number, vector) in enumerate(
            zip(random.permutation(len(number_Q)), number_Q, vectors_QD, strict=True)
        )
    ]
    queries = create(uri, QUERIES, {"seed": seed}, {}, 1)
    queries.commit(0, pa.Table.from_pylist(rows, schema=schema.queries(DIM)), 0.0)
    return queries.seal(QueriesFacts(BACKBONE, DIM, len(NAMES)))


def plan_of(uri: str, searched: str, hits_at_once: int = 0, deleted: tuple[int, ...] = ()) -> SearchPlan:
    recipe = recipe_over(uri, Path(uri).parent / "out")
    opened = Database(
        open_artifact(f"{uri}/pairs", PAIRS), open_artifact(f"{uri}/embeddings", EMBEDDINGS), None, np.array(deleted)
    )
    index = open_artifact(f"{uri}/index", INDEX) if searched == "index" else None
    return SearchPlan(opened, index, recipe.index, recipe.cluster, hits_at_once=hits_at_once)


def every_hit(uri: str, asked: Artifact[QueriesFacts], keys: list[Key] = KEYS) -> pa.Table:
    """schema.HITS of every query and every pair, by one NumPy scan."""
    table = pa.concat_tables(open_artifact(f"{uri}/embeddings", EMBEDDINGS).tables())
    queries = pa.concat_tables(asked.tables())
    tables = []
    for key in keys:
        some = queries if key == "image" else queries.filter(pa.compute.equal(queries["modality"], "text"))
        vectors_ND = from_vectors(table[key]).astype(np.float64)
        finite = np.isfinite(vectors_ND).all(axis=1)
        pair_N = table["pair_id"].to_numpy()[finite]
        score_QN = (from_vectors(some["embedding"]).astype(np.float64) @ vectors_ND[finite].T).astype(np.float32)
        order_QN = np.lexsort((np.broadcast_to(pair_N, score_QN.shape), -score_QN), axis=1)
        columns = {
            "query_id": np.repeat(some["query_id"].to_numpy(), len(pair_N)),
            "pair_id": pair_N[order_QN].ravel(),
            "score": np.take_along_axis(score_QN, order_QN, axis=1).ravel(),
            "rank": np.tile(np.arange(len(pair_N)), len(score_QN)),
            "key": [key] * score_QN.size,
        }
        tables.append(pa.table(columns).cast(schema.HITS))
    return pa.concat_tables(tables)


def best_of_each_class(hits: pa.Table, asked: Artifact[QueriesFacts], most: int) -> list[tuple]:
    """(class, key, place, pair, score), the best hit of each pair, in plain Python."""
    queries = pa.concat_tables(asked.tables())
    group = dict(zip(queries["query_id"].to_pylist(), first_of_name(queries).tolist(), strict=True))
    best: dict[tuple, dict[int, float]] = {}
    for hit in hits.to_pylist():
        of_class = best.setdefault((group[hit["query_id"]], hit["key"]), {})
        of_class[hit["pair_id"]] = max(of_class.get(hit["pair_id"], -2.0), hit["score"])
    out = []
    for (number, key), found in best.items():
        ranked = sorted(found.items(), key=lambda one: (-one[1], one[0]))[:most]
        out += [(number, key, place, pair, score) for place, (pair, score) in enumerate(ranked)]
    return sorted(out)


@pytest.mark.parametrize("searched", ["index", "exact"])
@pytest.mark.parametrize("most", [7, 500])
def test_hits_by_class_are_the_best_pairs_of_each_class_in_any_blocks(
    database: str, tmp_path: Path, searched: str, most: int
) -> None:
    asked = queries_of(str(tmp_path / "queries"))
    hits, queries = every_hit(database, asked), pa.concat_tables(asked.tables())
    group = dict(zip(queries["query_id"].to_pylist(), first_of_name(queries).tolist(), strict=True))
    scores = {(hit["query_id"], hit["key"], hit["pair_id"]): hit["score"] for hit in hits.to_pylist()}
    for at_once, num_blocks in ((0, 1), (1, 4)):
        with Searchers(plan_of(database, searched, at_once)) as searchers:
            ask = Ask(str(tmp_path / f"hits{at_once}"), asked, most, by_class=True)
            found = search(ask, KEYS, searchers)
        assert found.num_parts == num_blocks
        rows = pa.concat_tables(found.tables()).to_pylist()
        mine = [(group[row["query_id"]], row["key"], row["rank"], row["pair_id"], row["score"]) for row in rows]
        assert sorted(mine) == best_of_each_class(hits, asked, most)
        assert all(scores[row["query_id"], row["key"], row["pair_id"]] == row["score"] for row in rows)


@pytest.mark.parametrize("searched", ["index", "exact"])
def test_a_search_that_was_killed_goes_on_with_the_blocks_that_are_left(
    database: str, tmp_path: Path, searched: str
) -> None:
    ask = Ask(str(tmp_path / "hits"), queries_of(str(tmp_path / "queries")), 9, by_class=True)
    with Searchers(plan_of(database, searched, 1)) as searchers:
        whole = search(ask, KEYS, searchers)
    for name in ("manifest.json", "part-00002.json", "part-00002.parquet"):
        (tmp_path / "hits" / name).unlink()
    kept = (tmp_path / "hits/part-00001.parquet").stat().st_mtime_ns
    with Searchers(plan_of(database, searched, 1)) as searchers:
        again = search(ask, KEYS, searchers)
    assert again.content == whole.content
    assert (tmp_path / "hits/part-00001.parquet").stat().st_mtime_ns == kept


class DeadSearchers(Searchers):
    def search_classes(self, *_: object) -> ClassHits:
        raise ShardUnavailable("a shard did not answer")


def test_a_searcher_that_dies_at_every_try_stops_the_search_and_names_the_classes(
    database: str, tmp_path: Path
) -> None:
    ask = Ask(str(tmp_path / "hits"), queries_of(str(tmp_path / "queries")), 9, by_class=True)
    for at_once, named in ((1, "the class 'owl' was"), (0, "the classes 'owl' to 'crane' were")):
        searchers = DeadSearchers(plan_of(database, "exact", at_once))
        uri = f"{ask.uri}{at_once}"
        with pytest.raises(ShardUnavailable, match=f"{named} searched when a shard did not answer"), searchers:
            search(replace(ask, uri=uri), KEYS, searchers)
        assert not list(Path(uri).glob("part-*"))


class InFlight(Searchers):
    """The first two classes are answered once both are asked; the searchers of the third are lost."""

    blocks_at_once = 2

    def __init__(self, plan: SearchPlan) -> None:
        super().__init__(plan)
        self.both = threading.Barrier(2, timeout=60)

    def search_classes(self, key: str, queries_QD: np.ndarray, class_Q: np.ndarray, most: int) -> ClassHits:
        if key == "image" and class_Q[0] in (0, 1):
            self.both.wait()
        if NAMES[class_Q[0]] == "stork":
            raise ShardUnavailable("a shard did not answer")
        return super().search_classes(key, queries_QD, class_Q, most)


def test_two_blocks_are_in_flight_and_those_before_a_lost_one_are_stored(database: str, tmp_path: Path) -> None:
    ask = Ask(str(tmp_path / "hits"), queries_of(str(tmp_path / "queries")), 9, by_class=True)
    with (
        pytest.raises(ShardUnavailable, match="the class 'stork' was searched"),
        InFlight(plan_of(database, "index", 1)) as searchers,
    ):
        search(ask, KEYS, searchers)
    assert sorted(path.name for path in (tmp_path / "hits").glob("part-*.json")) == [
        "part-00000.json",
        "part-00001.json",
    ]
    contents = set()
    for name in ("hits", "undisturbed"):
        with Searchers(plan_of(database, "index", 1)) as searchers:
            contents.add(search(replace(ask, uri=str(tmp_path / name)), KEYS, searchers).content)
    assert len(contents) == 1


def test_deleted_pairs_are_not_searched_and_hits_of_each_query_are_as_many_as_asked_for(
    database: str, tmp_path: Path
) -> None:
    asked = queries_of(str(tmp_path / "queries"))
    with Searchers(replace(plan_of(database, "exact", 1, deleted=(0, 1, 2)))) as searchers:
        found = pa.concat_tables(search(Ask(str(tmp_path / "hits"), asked, 20), KEYS, searchers).tables())
    assert found.num_rows == (2 * 5 * NUM_PROMPTS + 1) * 20 and not set(found["pair_id"].to_pylist()) & {0, 1, 2}
    expected = every_hit(database, asked)
    expected = expected.filter(pa.array(~np.isin(expected["pair_id"], [0, 1, 2])))
    for query, key in {(row["query_id"], row["key"]) for row in found.to_pylist()}:
        one = (pa.compute.field("query_id") == query) & (pa.compute.field("key") == key)
        assert found.filter(one)["pair_id"].to_pylist() == expected.filter(one)["pair_id"].to_pylist()[:20]


def rounds(
    uri: str, folder: Path, asked: Artifact[QueriesFacts], config: RetrieveConfig, searched: str = "exact"
) -> Found:
    queries, plan = pa.concat_tables(asked.tables()).drop_columns(["embedding"]), plan_of(uri, searched, 1)
    agreement = agreement_where_they_lie(str(folder / "candidates"), asked, config, plan)
    return search_rounds(
        str(folder),
        asked,
        queries,
        list(config.keys),
        config,
        plan,
        lambda: None,
        lambda claims: choose_screened(claims, config, None, agreement),
    )


def best_scores(hits: pa.Table, queries: pa.Table, pair_ids: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    group = dict(zip(queries["query_id"].to_pylist(), first_of_name(queries).tolist(), strict=True))
    best: dict[tuple[int, int], float] = {}
    for hit in hits.to_pylist():
        claim = hit["pair_id"], group[hit["query_id"]]
        best[claim] = max(best.get(claim, -2.0), hit["score"])
    return np.array([best.get(claim, -2.0) for claim in zip(pair_ids.tolist(), class_ids.tolist(), strict=True)])


@pytest.mark.parametrize("searched", ["index", "exact"])
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(
    "wanted",
    [
        {"pairs_per_class": 4},
        {"pairs_per_class": 9, "min_score": 0.4},
        {"max_pairs": 9},
        {"keys": ["text"]},
        {"image_share": 0.4},
        {"image_share": 0.8, "pairs_per_class": 20, "min_score_of": {"image": 0.1, "text": 0.3}},
        {"keys": ["text"], "min_image_score": 0.5},
    ],
)
def test_classes_choose_as_from_all_hits_of_all_queries(
    database: str, tmp_path: Path, searched: str, exclusive: bool, wanted: dict
) -> None:
    for seed in range(4):
        asked = queries_of(str(tmp_path / f"queries{seed}"), seed)
        config = RetrieveConfig(**({"pairs_per_class": 5, "max_k": 999, "exclusive": exclusive, "keys": KEYS} | wanted))
        queries = pa.concat_tables(asked.tables())
        by_image, agreement = every_hit(database, asked, ["image"]), None
        if config.min_image_score > -1:
            agreement = ImageAgreement(config.min_image_score, partial(best_scores, by_image, queries))
        expected = select(every_hit(database, asked), queries, config, agreement=agreement)
        found = rounds(database, tmp_path / str(seed), asked, config, searched)
        columns = ("pair_id", "class_id", "score")
        if config.image_share:  # the best of the hits that were found, of which all hits have more
            columns = columns[: 2 if exclusive else 1]
        assert found.chosen.select(columns).equals(expected.select(columns))


def test_a_class_that_loses_pairs_is_searched_deeper_alone_until_it_has_them(database: str, tmp_path: Path) -> None:
    asked = queries_of(str(tmp_path / "queries"))
    found = rounds(database, tmp_path / "run", asked, RetrieveConfig(pairs_per_class=20, keys=KEYS))
    assert np.unique(found.chosen["class_id"], return_counts=True)[1].tolist() == [20] * 4
    again = open_artifact(str(tmp_path / "run/asked_2"), QUERIES)
    assert 0 < again.rows < asked.rows
    limited = RetrieveConfig(pairs_per_class=20, max_k=30, keys=KEYS)
    assert rounds(database, tmp_path / "limited", asked, limited).chosen.num_rows < 4 * 20
    assert not (tmp_path / "limited/asked_2").exists()
    shared = RetrieveConfig(pairs_per_class=20, max_pairs=30, keys=KEYS, exclusive=False)
    assert rounds(database, tmp_path / "shared", asked, shared).chosen.num_rows == 30
    assert not (tmp_path / "shared/asked_2").exists() and not (tmp_path / "shared/hits_2").exists(), "they had 20 each"
    everything = RetrieveConfig(pairs_per_class=NUM_PARTS * ROWS, keys=KEYS)
    assert rounds(database, tmp_path / "all", asked, everything).chosen.num_rows == NUM_PARTS * ROWS, "and it ends"
