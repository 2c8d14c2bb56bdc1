"""Searches the database for `queries/` and stores the `hits/`, one part per block of classes.

A block is searched with all its prompts and keys and committed as soon as it is answered. Two blocks are in flight, so
that searchers do not wait for this process; memory is bounded by these, and a search that is killed goes on with the
first that is not stored. Within a part, hits are ordered by key, query and rank.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.clip.identity import same_text_tower
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch, ArtifactMissing, ShardUnavailable
from react_ray.index.config import Key
from react_ray.index.shards import check_covers, uncovered
from react_ray.kinds import HITS, NoFacts, QueriesFacts
from react_ray.progress import Progress
from react_ray.section import digest
from react_ray.stages.retrieval.asked_queries import AskedQueries
from react_ray.stages.retrieval.searchers import Searchers, SearchPlan


@dataclass(frozen=True)
class Ask:
    """What is searched for and stored at `uri`: k hits of every query and key, or k pairs of every class and key."""

    uri: str
    queries: Artifact[QueriesFacts]
    k: int
    by_class: bool = False  # a pair is stored once per class and key, with its best hit; rank is its place there


def search(ask: Ask, keys: Sequence[Key], searchers: Searchers) -> Artifact[NoFacts]:
    """Sentences are compared with all keys, images with image keys. Returns the sealed hits.

    ArtifactMismatch if another model embedded the queries. Classes of one task that share a name are one class.
    """
    _check(ask.queries, searchers.plan)
    asked = AskedQueries.read(ask.queries)
    blocks = searchers.plan.blocks(asked.class_Q, ask.k, len(keys), ask.by_class)
    draft = _draft(ask, keys, searchers, len(blocks))
    pending = draft.pending()
    if pending:
        searchers.open(key for key in keys if key == "image" or asked.text_Q.any())
        with Progress("search", len(blocks), "queries", unit="blocks") as progress:
            if len(pending) < len(blocks):
                progress.advance(done=len(blocks) - len(pending), note="already done")
            began = time.monotonic()
            for part, found in _answers(ask, asked, [(part, blocks[part]) for part in pending], keys, searchers):
                draft.commit(part, found, time.monotonic() - began)
                progress.advance(rows=len(blocks[part]))
                began = time.monotonic()
    return draft.seal()


def _answers(
    ask: Ask, asked: AskedQueries, blocks: list[tuple[int, np.ndarray]], keys: Sequence[Key], searchers: Searchers
) -> Iterator[tuple[int, pa.Table]]:
    """Yields (part, its hits) in order. While a block is merged and stored, and between the rounds and keys of its
    search, the searchers answer another. blocks: the part and the rows of each.

    ShardUnavailable names the classes that were searched.
    """
    waiting: deque[tuple[int, np.ndarray, Future[pa.Table]]] = deque()
    pool = ThreadPoolExecutor(at_once := searchers.blocks_at_once)
    try:
        for part, rows in blocks:
            waiting.append((part, rows, pool.submit(_answer, ask, asked.take(rows), keys, searchers)))
            if len(waiting) == at_once:
                yield _received(asked, *waiting.popleft())
        while waiting:
            yield _received(asked, *waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interrupt does not wait: the actors are killed next


def _received(asked: AskedQueries, part: int, rows: np.ndarray, found: Future[pa.Table]) -> tuple[int, pa.Table]:
    try:
        return part, found.result()
    except ShardUnavailable as error:
        raise ShardUnavailable(f"{asked.names(rows)} searched when {error}") from error


def _answer(ask: Ask, asked: AskedQueries, keys: Sequence[Key], searchers: Searchers) -> pa.Table:
    tables = [schema.HITS.empty_table()]
    for key in keys:
        some = asked if key == "image" else asked.take(np.flatnonzero(asked.text_Q))
        if not len(some.query_Q):
            continue
        if ask.by_class:
            best = searchers.search_classes(key, some.vectors_QD, some.class_Q, ask.k)
            row, pair_id, score, rank = best.query, best.pair_id, best.score, best.place
        else:
            row, pair_id, score, rank = searchers.search(key, some.vectors_QD, ask.k).rows()
        columns: dict[str, Any] = {"query_id": some.query_Q[row], "pair_id": pair_id, "score": score}
        columns |= {"rank": rank, "key": [key] * len(row)}
        tables.append(schema.conform(pa.table(columns), schema.HITS))
    return pa.concat_tables(tables)


def _draft(ask: Ask, keys: Sequence[Key], searchers: Searchers, num_blocks: int) -> Draft[NoFacts]:
    plan = searchers.plan
    config: dict[str, Any] = {"keys": list(keys), "k": ask.k, "by_class": ask.by_class}
    config["search"] = "exact" if plan.index is None else "index"
    if plan.index is not None:
        params = {key: searchers.params(key, ask.k) for key in keys if key in plan.index.facts.keys}
        config["params"] = {key: [p.nprobe, p.k_factor, p.ef_search] for key, p in params.items()}
    if len(plan.database.deleted):
        config["deleted"] = digest(plan.database.deleted.tolist())
    return create(ask.uri, HITS, config, {"queries": ask.queries} | plan.parents(), num_blocks)


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
