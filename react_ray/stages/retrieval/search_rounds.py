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
from react_ray.index.ordering import distinct
from react_ray.kinds import QUERIES, QueriesFacts
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.select import coverage, first_of_name
from react_ray.stages.retrieval.match import RandomHits
from react_ray.stages.retrieval.search import Ask, search
from react_ray.stages.retrieval.searchers import Searchers, SearchPlan
from react_ray.stages.retrieval.settle import Choose, Settled
from react_ray.storage import join

RANDOM_K = 32  # hits of a random query: only the best counts, and an approximate search finds it among so many
GROWTH = 4  # how much deeper each further round goes


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
    depth_Q, again, number = np.zeros(queries.num_rows, np.int64), np.ones(queries.num_rows, dtype=bool), 1
    hits, background = schema.HITS.empty_table(), None
    settled = Settled(join(root, "candidates"), asked, keys, config, plan)
    with Searchers(plan) as searchers:
        while True:
            suffix = "" if number == 1 else f"_{number}"
            some = asked if again.all() else _some(asked, again, join(root, f"asked{suffix}"))
            new = search(Ask(join(root, f"hits{suffix}"), some, k, config.by_class), keys, searchers)
            if number == 1 and (made := random()):
                of_random = Ask(join(root, "random_hits"), made, min(k, RANDOM_K))
                background = RandomHits(made, search(of_random, keys, searchers))
            kept = ~np.isin(hits["query_id"].to_numpy(), queries["query_id"].to_numpy()[again])
            hits = pa.concat_tables([hits.filter(pa.array(kept)), *new.tables()])
            depth_Q[again] = k
            chosen, counts = settled.choose(hits, choose)
            again = _short(chosen, hits, queries, depth_Q, config) & (depth_Q < deepest)
            if not again.any():
                return Found(hits, chosen, counts, background)
            k, number = min(GROWTH * int(depth_Q[again].min()), deepest), number + 1
            again &= depth_Q < k  # classes that were searched as deep already may need the round after


def _short(
    chosen: pa.Table, hits: pa.Table, queries: pa.Table, depth_Q: np.ndarray, config: RetrieveConfig
) -> np.ndarray:
    """Returns bool [Q], True where the query's class has fewer than pairs_per_class pairs and there may be more: the
    query, or any of a class that is searched as one, received all that it asked for, down to a score that counts."""
    if not config.pairs_per_class:
        return np.zeros(queries.num_rows, dtype=bool)
    query_id, group_Q = queries["query_id"].to_numpy(), first_of_name(queries)
    depth_of, group_of = (np.zeros(int(query_id.max(initial=0)) + 1, np.int64) for _ in range(2))
    depth_of[query_id], group_of[query_id] = depth_Q, group_Q
    hit_by, score = hits["query_id"].to_numpy(), hits["score"].to_numpy()
    last = (hits["rank"].to_numpy() == depth_of[hit_by] - 1) & (score >= np.float32(config.min_score))
    full = np.isin(query_id, hit_by[last])
    if not config.by_class:
        covered = coverage(chosen, queries, config.exclusive)
        short = [class_id for class_id, _, count in covered if count < config.pairs_per_class]
        return full & np.isin(queries["class_id"].to_numpy(), short)
    floor = np.full(int(group_Q.max(initial=0)) + 1, -np.inf, np.float32)
    if config.fusion == "score":  # a deeper search may find pairs up to the last score of any key
        np.maximum.at(floor, group_of[hit_by[last]], score[last])
    counts = _chosen_above(floor, chosen, hits, group_of, config.exclusive)
    return np.isin(group_Q, group_Q[full]) & (counts[group_Q] < config.pairs_per_class)


def _chosen_above(
    floor: np.ndarray, chosen: pa.Table, hits: pa.Table, group_of: np.ndarray, exclusive: bool
) -> np.ndarray:
    """Returns int64 [classes], the number of chosen pairs that each class claims with a score above its floor, float32
    [classes]. group_of: the class of each query_id."""
    pair, group = hits["pair_id"].to_numpy(), group_of[hits["query_id"].to_numpy()]
    of_chosen = chosen["pair_id"].to_numpy()  # ascending
    at = np.minimum(np.searchsorted(of_chosen, pair), max(len(of_chosen) - 1, 0))
    counted = hits["score"].to_numpy() > floor[group]
    counted &= of_chosen[at] == pair if len(of_chosen) else False
    if exclusive:
        counted &= chosen["class_id"].to_numpy()[at] == group if len(of_chosen) else False
    claims = distinct(group[counted] * max(len(of_chosen), 1) + at[counted])
    return np.bincount(claims // max(len(of_chosen), 1), minlength=len(floor))


def _some(asked: Artifact[QueriesFacts], rows: np.ndarray, uri: str) -> Artifact[QueriesFacts]:
    """Stores some of the queries as an artifact of their own."""
    kept = pa.array(np.flatnonzero(rows))
    some = create(uri, QUERIES, {"rows": kept.to_pylist()}, {"queries": asked}, 1)
    if not some.sealed:
        some.commit(0, pa.concat_tables(asked.tables()).take(kept).combine_chunks(), 0.0)
    return some.seal(asked.facts)
