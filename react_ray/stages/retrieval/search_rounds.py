"""Searches until every class has its pairs: all classes first, then, deeper, those that are still short.

A class is short if it lost pairs: to another class that claims them more strongly, to a duplicate, to a test set. Each
round is an artifact of its own (`hits`, `hits_2`, ...), and replaces the hits of the classes that it asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.draft import create
from react_ray.index.config import Key
from react_ray.kinds import QUERIES, NoFacts, QueriesFacts
from react_ray.selection.claims import Claims, Scales
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.kept_claims import KeptClaims
from react_ray.stages.retrieval.match import RandomHits
from react_ray.stages.retrieval.search import Ask, search
from react_ray.stages.retrieval.searchers import Searchers, SearchPlan
from react_ray.stages.retrieval.settle import Choose, Settled
from react_ray.storage import join

RANDOM_K = 32  # hits of a random query: only the best counts, and an approximate search finds it among so many
GROWTH = 4  # how much deeper each further round goes


@dataclass(frozen=True)
class Found:
    """What was chosen of the hits of all rounds (select.CHOSEN) with the counts of each step, the claims that it was
    chosen from, and the hits of random queries. `tables` gives all hits again, block by block: they need not fit in
    memory."""

    tables: Callable[[], Iterator[pa.Table]]
    claims: Claims
    chosen: pa.Table
    counts: dict[str, int]
    random: RandomHits | None = None


def search_rounds(
    root: str,
    asked: Artifact[QueriesFacts],
    queries: pa.Table,
    keys: list[Key],
    config: RetrieveConfig,
    plan: SearchPlan,
    random: Callable[[], Artifact[QueriesFacts] | None],
    choose: Choose,
    scales: Scales | None = None,
) -> Found:
    """root: URI below which each round is stored. queries: the rows of `asked` without their vectors. random: called
    once, gives the random queries of the background. scales: as in claims_of."""
    num_pairs = plan.database.pairs.rows
    k, deepest = (min(depth, num_pairs) for depth in (config.first_k, config.deepest_k))
    depth_Q, again = np.zeros(queries.num_rows, np.int64), np.ones(queries.num_rows, dtype=bool)
    last_Q, found = np.zeros(queries.num_rows, np.int64), list[Artifact[NoFacts]]()
    kept, background = KeptClaims(queries, config, scales), None
    settled = Settled(join(root, "candidates"), asked, keys, config, plan)
    with Searchers(plan) as searchers:
        while True:
            suffix = f"_{len(found) + 1}" if found else ""
            some = asked if again.all() else _some(asked, again, join(root, f"asked{suffix}"))
            last_Q[again], depth_Q[again] = len(found), k
            found.append(search(Ask(join(root, f"hits{suffix}"), some, k, config.by_class), keys, searchers))
            if len(found) == 1 and (made := random()):
                of_random = Ask(join(root, "random_hits"), made, min(k, RANDOM_K))
                background = RandomHits(made, search(of_random, keys, searchers))
            kept.add(found[-1].tables(), again, k)
            claims = kept.claims
            chosen, counts = settled.choose(claims, choose)
            again = kept.short(chosen) & (depth_Q < deepest)
            if not again.any():
                every = partial(_last, found, queries["query_id"].to_numpy(), last_Q)
                return Found(every, claims, chosen, counts, background)
            k = min(GROWTH * int(depth_Q[again].min()), deepest)
            again &= depth_Q < k  # classes that were searched as deep already may need the round after


def _last(rounds: Sequence[Artifact[NoFacts]], query_id: np.ndarray, last_Q: np.ndarray) -> Iterator[pa.Table]:
    """Yields the hits of the last round of each query."""
    for number, hits in enumerate(rounds):
        answered = query_id[last_Q == number]
        for table in hits.tables():
            yield table.filter(pa.array(np.isin(table["query_id"].to_numpy(), answered)))


def _some(asked: Artifact[QueriesFacts], rows: np.ndarray, uri: str) -> Artifact[QueriesFacts]:
    """Stores some of the queries as an artifact of their own."""
    kept = pa.array(np.flatnonzero(rows))
    some = create(uri, QUERIES, {"rows": kept.to_pylist()}, {"queries": asked}, 1)
    if not some.sealed:
        some.commit(0, pa.concat_tables(asked.tables()).take(kept).combine_chunks(), 0.0)
    return some.seal(asked.facts)
