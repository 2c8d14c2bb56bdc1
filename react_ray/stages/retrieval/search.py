"""search: `queries/` against the database -> `hits/`. Ray actors each hold some shards; answers are merged exactly.

`search=index` fans blocks of queries out to actors that serve the FAISS shards; `search=exact` streams the embeddings
once through actors that keep a running top-k, and needs no index. Next: fan_out.py, then collect.py.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.clip.identity import same_text_tower
from react_ray.draft import create
from react_ray.errors import ArtifactMismatch, ArtifactMissing
from react_ray.index.config import SearchParams
from react_ray.index.deleted import deleted_pairs
from react_ray.index.merge import Hits
from react_ray.index.shards import check_covers, deltas, params_for, uncovered
from react_ray.kinds import EMBEDDINGS, HITS, INDEX
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.section import digest
from react_ray.stages.retrieval.shard_actors import ShardFanOut, search_exactly
from react_ray.vectors import from_vectors

logger = logging.getLogger(__name__)


def run(recipe: Recipe, uri: str, queries: Artifact, allowed: Artifact | None = None) -> Artifact:
    """Gives the sealed `hits`: one part per key, ordered by query and rank. allowed: of allow.py; None = all pairs."""
    layout = Layout(recipe)
    wanted = recipe.retrieve
    config = {"keys": wanted.keys, "k": wanted.k, "search": wanted.search}
    embeddings = layout.open_database(EMBEDDINGS)
    if not same_text_tower(embeddings.facts.backbone, queries.facts.backbone):
        raise ArtifactMismatch(
            f"{embeddings.uri} was embedded by {embeddings.facts.backbone}, the queries by {queries.facts.backbone}; "
            "name the backbone that embedded the database, or embed it again into another `database`"
        )
    source: Artifact[Any] = embeddings if wanted.search == "exact" else layout.open_database(INDEX)
    if wanted.search == "index":
        check_covers(source, embeddings)
        if missing := uncovered(source, embeddings):
            raise ArtifactMissing(
                f"{source.uri} is without {len(missing)} parts that were added to {embeddings.uri}; run `react-ray index RECIPE` first"
            )
    parents = {"queries": queries, wanted.search: source} | ({} if allowed is None else {"allowed": allowed})
    if wanted.search == "index":
        parents |= {f"delta{number}": delta for number, delta in enumerate(deltas(source))}
        searched = {
            key: search_params(recipe, source, key, wanted.k) for key in wanted.keys if key in source.facts.keys
        }
        config |= {"params": {key: [p.nprobe, p.k_factor, p.ef_search] for key, p in searched.items()}}
    deleted = deleted_pairs(recipe.database)
    if len(deleted):
        config |= {"deleted": digest(deleted.tolist())}
    hits = create(uri, HITS, config, parents, len(wanted.keys))
    if hits.sealed:
        return hits.open()
    table = pa.concat_tables(queries.tables(["query_id", "embedding"]))
    query_ids = table["query_id"].to_numpy()
    queries_QD = from_vectors(table["embedding"]).astype(np.float32)
    with Progress("search", len(wanted.keys), "queries", unit="keys") as progress:
        for part in hits.pending():
            key = wanted.keys[part]
            began = time.monotonic()
            answer = search_exactly if wanted.search == "exact" else _fan_out
            found = answer(recipe, source, key, queries_QD, wanted.k, allowed)
            row, pair_id, score, rank = found.rows()
            columns: dict[str, Any] = {"query_id": query_ids[row], "pair_id": pair_id, "score": score, "rank": rank}
            columns["key"] = [key] * len(row)
            hits.commit(part, schema.conform(pa.table(columns), schema.HITS), time.monotonic() - began)
            progress.advance(rows=len(query_ids))
    return hits.seal()


def _fan_out(
    recipe: Recipe, index: Artifact, key: str, queries_QD: np.ndarray, k: int, allowed: Artifact | None
) -> Hits:
    params = search_params(recipe, index, key, k)
    with ShardFanOut(recipe, index, key, allowed) as shards:
        return shards.search(queries_QD, k, params)


def search_params(recipe: Recipe, index: Artifact, key: str, k: int) -> SearchParams:
    """What the recipe names; else what the calibration found for index.recall, with a warning where that was not reached."""
    wanted = recipe.index
    if wanted.nprobe and (wanted.k_factor or not index.facts.calibration.get(key)):
        return SearchParams(nprobe=wanted.nprobe, k_factor=wanted.k_factor)
    params, reached = params_for(index, key, wanted.recall, k)
    if wanted.nprobe or wanted.k_factor:
        return replace(params, nprobe=wanted.nprobe or params.nprobe, k_factor=wanted.k_factor or params.k_factor)
    deepest = max((row["k"] for row in index.facts.calibration.get(key, [])), default=k)
    if deepest < k and index.facts.num_lists:
        logger.warning(
            "recall was measured up to k=%d, for k=%d it is a guess; build with index.calibration_k=10000", deepest, k
        )
    if reached < wanted.recall:
        logger.warning(
            "index.recall=%g is not reached for %s keys at k=%d: the best that was measured is %.3f; use retrieve.search=exact, or kind=flat",
            wanted.recall, key, k, reached,
        )  # fmt: skip
    return params
