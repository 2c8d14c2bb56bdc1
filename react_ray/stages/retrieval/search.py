"""Searches the database for `queries/` and stores the `hits/`, one part per key, ordered by query and rank.

An index is searched by actors that serve its FAISS shards. Without an index, actors stream the embeddings once and
keep a running top-k, which is exact. Their answers are merged exactly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.clip.identity import same_text_tower
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch, ArtifactMissing
from react_ray.index.config import IndexConfig, Key, SearchParams
from react_ray.index.merge import Hits
from react_ray.index.shards import check_covers, deltas, params_for, uncovered
from react_ray.kinds import HITS, AllowedFacts, IndexFacts, NoFacts, QueriesFacts
from react_ray.progress import Progress
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import is_running
from react_ray.section import digest
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.shard_actors import ShardFanOut, search_all_exactly
from react_ray.vectors import from_vectors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchPlan:
    """What a search goes through and how: an index with its target recall, or the embeddings."""

    database: Database
    index: Artifact[IndexFacts] | None  # None = exact search over the embeddings
    config: IndexConfig
    cluster: ClusterConfig
    allowed: Artifact[AllowedFacts] | None = None  # the only pairs that may be found; None = all

    def parents(self) -> dict[str, Artifact[Any]]:
        found: dict[str, Artifact[Any]] = {} if self.allowed is None else {"allowed": self.allowed}
        if self.index is None:
            return found | {"exact": self.database.embeddings}
        return found | {"index": self.index} | {f"delta{i}": delta for i, delta in enumerate(deltas(self.index))}


@dataclass(frozen=True)
class Ask:
    """k hits of every query, which are stored at `uri`."""

    uri: str
    queries: Artifact[QueriesFacts]
    k: int


def search(
    uri: str, queries: Artifact[QueriesFacts], keys: Sequence[Key], k: int, plan: SearchPlan
) -> Artifact[NoFacts]:
    """Find k hits of every query and key. ArtifactMismatch if another model embedded the queries."""
    return search_all([Ask(uri, queries, k)], keys, plan)[0]


def search_all(asks: Sequence[Ask], keys: Sequence[Key], plan: SearchPlan) -> list[Artifact[NoFacts]]:
    """As `search`, for several sets of queries in one pass over the database: each gets the hits that it would get
    alone."""
    drafts = [_draft(ask, keys, plan) for ask in asks]
    pending = {part: [i for i, draft in enumerate(drafts) if part in draft.pending()] for part in range(len(keys))}
    pending = {part: wanted for part, wanted in pending.items() if wanted}
    if not pending:
        return [draft.seal() for draft in drafts]
    vectors, answer = [_vectors(ask) for ask in asks], _searcher(plan)
    with Progress("search", len(keys), "queries", unit="keys") as progress:
        for part, wanted in pending.items():
            began = time.monotonic()
            found = answer(keys[part], [(vectors[i][1], asks[i].k) for i in wanted])
            for i, hits in zip(wanted, found, strict=True):
                row, pair_id, score, rank = hits.rows()
                columns: dict[str, Any] = {"query_id": vectors[i][0][row], "pair_id": pair_id, "score": score}
                columns |= {"rank": rank, "key": [keys[part]] * len(row)}
                drafts[i].commit(part, schema.conform(pa.table(columns), schema.HITS), time.monotonic() - began)
            progress.advance(rows=sum(len(vectors[i][0]) for i in wanted))
    return [draft.seal() for draft in drafts]


def _draft(ask: Ask, keys: Sequence[Key], plan: SearchPlan) -> Draft[NoFacts]:
    _check(ask.queries, plan)
    config: dict[str, Any] = {"keys": list(keys), "k": ask.k, "search": "exact" if plan.index is None else "index"}
    if plan.index is not None:
        params = {
            key: search_params(plan.index, key, ask.k, plan.config) for key in keys if key in plan.index.facts.keys
        }
        config["params"] = {key: [p.nprobe, p.k_factor, p.ef_search] for key, p in params.items()}
    if len(plan.database.deleted):
        config["deleted"] = digest(plan.database.deleted.tolist())
    return create(ask.uri, HITS, config, {"queries": ask.queries} | plan.parents(), len(keys))


def _vectors(ask: Ask) -> tuple[np.ndarray, np.ndarray]:
    """Returns query_ids [Q] and queries float32 [Q, D]."""
    table = pa.concat_tables(ask.queries.tables(["query_id", "embedding"]))
    return table["query_id"].to_numpy(), from_vectors(table["embedding"]).astype(np.float32)


def _check(queries: Artifact[QueriesFacts], plan: SearchPlan) -> None:
    embeddings = plan.database.embeddings
    if not same_text_tower(embeddings.facts.backbone, queries.facts.backbone):
        raise ArtifactMismatch(
            f"{embeddings.uri} was embedded by {embeddings.facts.backbone}, the queries by {queries.facts.backbone}; "
            "name the backbone that embedded the database, or embed it again into another `database`"
        )
    if plan.index is None:
        return
    check_covers(plan.index, embeddings)
    if missing := uncovered(plan.index, embeddings):
        raise ArtifactMissing(
            f"{plan.index.uri} is without {len(missing)} parts that were added to {embeddings.uri}; run `react-ray "
            "index RECIPE` first"
        )


Wanted = list[tuple[np.ndarray, int]]  # queries float32 [Q, D], k


def _searcher(plan: SearchPlan) -> Callable[[str, Wanted], list[Hits]]:
    """A function of a key and several sets of queries; it opens or streams the database once for all of them."""
    here = plan.database.is_small and not is_running()

    def exactly(key: str, wanted: Wanted) -> list[Hits]:
        database = plan.database
        return search_all_exactly(database.embeddings, key, wanted, plan.cluster, database.deleted, plan.allowed, here)

    def by_index(key: str, wanted: Wanted) -> list[Hits]:
        assert plan.index is not None
        with ShardFanOut(plan.index, key, plan.cluster, plan.database.deleted, plan.allowed, here) as shards:
            return [
                shards.search(queries_QD, k, search_params(plan.index, key, k, plan.config)) for queries_QD, k in wanted
            ]

    return exactly if plan.index is None else by_index


def search_params(index: Artifact[IndexFacts], key: str, k: int, config: IndexConfig) -> SearchParams:
    """The parameters that the recipe names, or those that the calibration found for its target recall.

    Logs a warning where no measured parameters reach that recall.
    """
    if config.nprobe and (config.k_factor or not index.facts.calibration.get(key)):
        return SearchParams(nprobe=config.nprobe, k_factor=config.k_factor)
    params, reached = params_for(index, key, config.recall, k)
    if config.nprobe or config.k_factor:
        return replace(params, nprobe=config.nprobe or params.nprobe, k_factor=config.k_factor or params.k_factor)
    deepest = max((row["k"] for row in index.facts.calibration.get(key, [])), default=k)
    if deepest < k and index.facts.num_lists:
        logger.warning(
            "recall was measured up to k=%d, for k=%d it is a guess; build with index.calibration_k=10000", deepest, k
        )
    if reached < config.recall:
        logger.warning(
            "index.recall=%g is not reached for %s keys at k=%d: the best that was measured is %.3f; use "
            "retrieve.search=exact, or kind=flat",
            config.recall,
            key,
            k,
            reached,
        )
    return params
