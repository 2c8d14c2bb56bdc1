"""search: `queries/` against the database -> `hits/`. Ray actors each hold some shards; answers are merged exactly.

`search=index` fans blocks of queries out to actors that serve the FAISS shards; `search=exact` streams the embeddings
once through actors that keep a running top-k, and needs no index. Next: index/merge.py, then collect.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from react_ray import schema
from react_ray.artifact import Artifact, create, open_artifact
from react_ray.clip.identity import same_text_tower
from react_ray.errors import ArtifactMismatch, ReactRayError, RetrievalError, ShardUnavailable
from react_ray.index.allowed import search_allowed
from react_ray.index.config import IndexConfig, SearchParams
from react_ray.index.exact import RunningTopK
from react_ray.index.merge import Hits, merge
from react_ray.index.shard import IndexShard
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.stages import allow
from react_ray.stages.cluster import placement
from react_ray.stages.index import shard_file
from react_ray.stages.layout import Layout
from react_ray.vectors import from_vectors

QUERIES_AT_ONCE = 1024


class ShardServer:
    """Serves every shard that it is given from one process with threads."""

    def __init__(
        self, index: Artifact, config: IndexConfig, key: str, shards: list[int], allowed: Artifact | None = None
    ) -> None:
        self.allowed = None if allowed is None else allow.load(allowed)
        first = config.keys.index(key) * config.num_shards  # type: ignore[arg-type]
        self.params = SearchParams(nprobe=config.nprobe)
        self.shards = [
            IndexShard.from_bytes(index.read_file(first + shard, shard_file(key, shard))) for shard in shards
        ]

    def search(self, queries_QD: np.ndarray, k: int) -> Hits:
        return merge([self._search(shard, queries_QD, k) for shard in self.shards], k)

    def _search(self, shard: IndexShard, queries_QD: np.ndarray, k: int) -> Hits:
        if self.allowed is None:
            return shard.search(queries_QD, k, self.params)
        ask = partial(shard.search, params=self.params)
        return search_allowed(ask, queries_QD, k, self.allowed, shard.num_vectors)


class EmbeddingScanner:
    """Keeps the best k of each query over the parts that it is given: exact, one pass, no index."""

    def scan(
        self, embeddings: Artifact, key: str, parts: list[int], queries_QD: np.ndarray, k: int, allowed: Artifact | None = None
    ) -> Hits:
        best = RunningTopK(k)
        for part in parts:
            table = embeddings.read(part, ["pair_id", key])
            if allowed is not None:
                table = table.filter(allowed.read(part, ["allowed"])["allowed"])
            best.update(queries_QD, table["pair_id"].to_numpy(), from_vectors(table[key]))
        return best.result()


def run(recipe: Recipe, uri: str, queries: Artifact, allowed: Artifact | None = None) -> Artifact:
    """Gives the sealed `hits`: one part per key, ordered by query and rank. allowed: of allow.py; None = all pairs."""
    layout = Layout(recipe)
    wanted = recipe.retrieve
    config = {"keys": wanted.keys, "k": wanted.k, "search": wanted.search}
    embeddings = layout.open_database("embeddings", "embed")
    if not same_text_tower(embeddings.facts["backbone"], queries.facts["backbone"]):
        raise ArtifactMismatch(
            f"{embeddings.uri} was embedded by {embeddings.facts['backbone']}, the queries by {queries.facts['backbone']}; "
            "name the backbone that embedded the database, or embed it again into another `database`"
        )
    source = embeddings if wanted.search == "exact" else layout.open_database("index", "index")
    parents = {"queries": queries, wanted.search: source} | ({} if allowed is None else {"allowed": allowed})
    hits = create(uri, "hits", config, parents, len(wanted.keys))
    if hits.sealed:
        return hits
    table = pa.concat_tables(queries.tables(["query_id", "embedding"]))
    query_ids = table["query_id"].to_numpy()
    queries_QD = from_vectors(table["embedding"]).astype(np.float32)
    with Progress("search", len(wanted.keys), "queries", unit="keys") as progress:
        for part in hits.pending():
            key = wanted.keys[part]
            began = time.monotonic()
            answer = _exact if wanted.search == "exact" else _fan_out
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
    if key not in index.facts["keys"]:
        raise RetrievalError(f"the index has no {key} keys, only {index.facts['keys']}; add it to index.keys and build again")
    num_shards = recipe.index.num_shards
    num_servers = min(num_shards, recipe.cluster.num_searchers)
    start = _actor(ShardServer, recipe)
    servers = [
        start(index, recipe.index, key, list(range(server, num_shards, num_servers)), allowed)
        for server in range(num_servers)
    ]
    blocks = [queries_QD[i : i + QUERIES_AT_ONCE] for i in range(0, len(queries_QD), QUERIES_AT_ONCE)]
    answers = [merge(_get([server.search.remote(block, k) for server in servers]), k) for block in blocks]
    for server in servers:
        ray.kill(server)
    return Hits(np.concatenate([a.scores for a in answers]), np.concatenate([a.pair_ids for a in answers]))


def _exact(
    recipe: Recipe, embeddings: Artifact, key: str, queries_QD: np.ndarray, k: int, allowed: Artifact | None
) -> Hits:
    embeddings = open_artifact(embeddings.uri, "embeddings")
    num_scanners = min(embeddings.num_parts, recipe.cluster.num_searchers)
    start = _actor(EmbeddingScanner, recipe)
    scanners = [start() for _ in range(num_scanners)]
    queries = ray.put(queries_QD)
    found = _get(
        [
            scanner.scan.remote(embeddings, key, list(range(i, embeddings.num_parts, num_scanners)), queries, k, allowed)
            for i, scanner in enumerate(scanners)
        ]
    )
    for scanner in scanners:
        ray.kill(scanner)
    return merge(found, k)


def _actor(kind: type, recipe: Recipe) -> Callable[..., Any]:
    """Starts actors of this kind on the nodes of the index; one that dies comes back and answers what it was asked."""
    where = placement(recipe.cluster, "index")
    return ray.remote(kind).options(num_cpus=1, max_restarts=3, max_task_retries=3, **where).remote


def _get(answers: list[Any]) -> list[Hits]:
    try:
        return ray.get(answers)
    except ray.exceptions.RayActorError as error:
        raise ShardUnavailable(f"a shard did not answer after its restarts: {error}; run the same command again") from error
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, ReactRayError) else error) from None
