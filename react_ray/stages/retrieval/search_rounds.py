"""Searches until every class has its pairs, in the rounds of selection/rounds.py.

Each round is an artifact of its own (`hits`, `hits_2`, ...), and replaces the hits of the classes that it asks again.
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
from react_ray.selection.background import RANDOM_K
from react_ray.selection.claims import Claims, Scales
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.rounds import Rounds
from react_ray.selection.settled import Choose
from react_ray.stages.retrieval.compare_pairs import settled_where_they_lie
from react_ray.stages.retrieval.match import RandomHits
from react_ray.stages.retrieval.search import Ask, search
from react_ray.stages.retrieval.searchers import Searchers, SearchPlan
from react_ray.storage import join


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
    last_Q, found = np.zeros(queries.num_rows, np.int64), list[Artifact[NoFacts]]()
    settled, background = settled_where_they_lie(join(root, "candidates"), asked, keys, config, plan), None
    rounds = Rounds(queries, config, plan.database.pairs.rows, settled, choose, scales)
    with Searchers(plan) as searchers:
        while rounds.again.any():
            again, k, suffix = rounds.again, rounds.depth, f"_{len(found) + 1}" if found else ""
            some = asked if again.all() else _some(asked, again, join(root, f"asked{suffix}"))
            last_Q[again] = len(found)
            found.append(search(Ask(join(root, f"hits{suffix}"), some, k, config.by_class), keys, searchers))
            if len(found) == 1 and (made := random()):
                of_random = Ask(join(root, "random_hits"), made, min(k, RANDOM_K))
                background = RandomHits(made, search(of_random, keys, searchers))
            rounds.add(found[-1].tables())
    every = partial(_last, found, queries["query_id"].to_numpy(), last_Q)
    return Found(every, rounds.claims, rounds.chosen, rounds.counts, background)


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
