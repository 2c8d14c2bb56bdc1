"""Searches until every class has its pairs: all classes first, then, deeper, those that are still short.

A class is short if it lost pairs: to another class that claims them more strongly, to a duplicate, to a test set. Each
round is an artifact of its own (`hits`, `hits_2`, ...), and replaces the hits of the classes that it asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.draft import create
from react_ray.index.config import Key
from react_ray.kinds import QUERIES, QueriesFacts
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.select import coverage, first_of_name
from react_ray.stages.retrieval.match import RandomHits
from react_ray.stages.retrieval.search import Ask, search
from react_ray.stages.retrieval.searchers import Searchers, SearchPlan
from react_ray.storage import join

RANDOM_K = 32  # hits of a random query: only the best counts, and an approximate search finds it among so many
GROWTH = 4  # how much deeper each further round goes

Choose = Callable[[pa.Table], tuple[pa.Table, dict[str, int]]]  # hits -> (select.SELECTED, what was left after a step)


@dataclass(frozen=True)
class Found:
    """The hits of all rounds, what was chosen of them with the counts of each step, and the hits of random queries."""

    hits: pa.Table
    chosen: pa.Table
    counts: dict[str, int]
    random: RandomHits | None


def search_rounds(
    root: str,
    asked: Artifact[QueriesFacts],
    queries: pa.Table,
    keys: list[Key],
    config: RetrieveConfig,
    plan: SearchPlan,
    random: Callable[[], Artifact[QueriesFacts] | None],
    choose: Choose,
) -> Found:
    """root: URI below which each round is stored. queries: the rows of `asked` without their vectors. random: called
    once, gives the random queries of the background."""
    num_pairs = plan.database.pairs.rows
    k, deepest = (min(depth, num_pairs) for depth in (config.first_k, config.deepest_k))
    again, number = np.ones(queries.num_rows, dtype=bool), 1
    hits, background = schema.HITS.empty_table(), None
    with Searchers(plan) as searchers:
        while True:
            suffix = "" if number == 1 else f"_{number}"
            some = asked if again.all() else _some(asked, again, join(root, f"asked{suffix}"))
            new = search(Ask(join(root, f"hits{suffix}"), some, k, config.by_class), keys, searchers)
            if number == 1 and (made := random()):
                of_random = Ask(join(root, "random_hits"), made, min(k, RANDOM_K))
                background = RandomHits(made, search(of_random, keys, searchers))
            table = pa.concat_tables(new.tables())
            kept = ~np.isin(hits["query_id"].to_numpy(), queries["query_id"].to_numpy()[again])
            hits = pa.concat_tables([hits.filter(pa.array(kept)), table])
            chosen, counts = choose(hits)
            again = _short(chosen, table, queries, k, config)
            if k >= deepest or not again.any():
                return Found(hits, chosen, counts, background)
            k, number = min(GROWTH * k, deepest), number + 1


def _short(chosen: pa.Table, hits: pa.Table, queries: pa.Table, k: int, config: RetrieveConfig) -> np.ndarray:
    """Returns bool [Q], True where the query's class has fewer than pairs_per_class pairs and there may be more: the
    query, or any of a class that is searched as one, received all k that it asked for, down to a score that counts."""
    if not config.pairs_per_class:
        return np.zeros(queries.num_rows, dtype=bool)
    counts = coverage(chosen, queries, config.exclusive)
    short = [class_id for class_id, _, count in counts if count < config.pairs_per_class]
    last = (hits["rank"].to_numpy() == k - 1) & (hits["score"].to_numpy() >= np.float32(config.min_score))
    query_id, class_id = queries["query_id"].to_numpy(), queries["class_id"].to_numpy()
    full = np.isin(query_id, hits["query_id"].to_numpy()[last])
    if config.by_class:
        group = first_of_name(queries)
        full = np.isin(group, group[full])
    return full & np.isin(class_id, short)


def _some(asked: Artifact[QueriesFacts], rows: np.ndarray, uri: str) -> Artifact[QueriesFacts]:
    """Stores some of the queries as an artifact of their own."""
    kept = pa.array(np.flatnonzero(rows))
    some = create(uri, QUERIES, {"rows": kept.to_pylist()}, {"queries": asked}, 1)
    if not some.sealed:
        some.commit(0, pa.concat_tables(asked.tables()).take(kept).combine_chunks(), 0.0)
    return some.seal(asked.facts)
