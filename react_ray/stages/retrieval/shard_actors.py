"""Fans queries out to Ray actors that hold shards, or that stream the embeddings, and merges their answers exactly.

ShardFanOut keeps its actors for many batches. One process with threads serves several shards, because separate
processes would each hold what shards share. Later batches are sent while earlier ones are answered.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
import ray

from react_ray.artifact import Artifact
from react_ray.errors import ReactRayError, ShardUnavailable
from react_ray.index.allowed import Allowed
from react_ray.index.config import IVF_RABITQ, SearchParams
from react_ray.index.exact import RunningTopK
from react_ray.index.merge import Hits, merge, no_hits
from react_ray.index.quantizer import faiss_threads
from react_ray.index.search_shards import Round, Searching, answer, num_candidates, search_shards, searching
from react_ray.index.shards import ShardPlace, open_shards, shard_places
from react_ray.kinds import AllowedFacts, EmbeddingsFacts, IndexFacts
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import answers, nodes
from react_ray.runtime.placement import largest_node_cpus, placement
from react_ray.vectors import from_vectors

QUERIES_AT_ONCE = 1024
ANSWER_BYTES = 256 << 20  # of one batch, at 20 bytes a candidate
BATCHES_AHEAD = 2  # batches that wait at each server
PARTS_AHEAD = 2  # parts that are read while one is searched


class ShardServer:
    """Serves its shards from one process with threads."""

    def __init__(
        self,
        places: list[ShardPlace],
        deleted: np.ndarray,
        num_threads: int,
        allowed: Artifact[AllowedFacts] | None = None,
    ) -> None:
        faiss_threads(num_threads)
        self.problem: ReactRayError | None = None
        try:
            self.shards = open_shards(places, deleted, None if allowed is None else Allowed.load(allowed))
        except ReactRayError as error:  # Ray would show a traceback of an actor that cannot be made, not the cause
            self.problem = error

    def search(self, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
        """Returns the hits among its own shards."""
        if self.problem:
            raise self.problem
        return search_shards(self.shards, queries_QD, k, params)

    def answer(self, method: str, queries_QD: np.ndarray, *args: Any) -> Any:
        """Answers a search_shards.Round over its shards."""
        if self.problem:
            raise self.problem
        return answer(self.shards, method, queries_QD, *args)


class EmbeddingScanner:
    """Finds the exact best k of each query in one pass over its parts of the embeddings, without an index."""

    def __init__(self, num_threads: int) -> None:
        faiss_threads(num_threads)

    def scan(
        self,
        embeddings: Artifact[EmbeddingsFacts],
        key: str,
        parts: list[int],
        asked: list[tuple[np.ndarray, int]],
        deleted: np.ndarray,
        allowed: Artifact[AllowedFacts] | None,
    ) -> list[Hits]:
        """asked: several sets of queries with their k; the parts are read once for all of them."""

        def read(part: int) -> tuple[np.ndarray, np.ndarray]:
            table = embeddings.read(part, ["pair_id", key])
            if allowed is not None:
                table = table.filter(allowed.read(part, ["allowed"])["allowed"])
            pair_ids, vectors_ND = table["pair_id"].to_numpy(), from_vectors(table[key])
            if len(deleted):
                kept = ~np.isin(pair_ids, deleted)
                if not kept.all():
                    pair_ids, vectors_ND = pair_ids[kept], vectors_ND[kept]
            return pair_ids, vectors_ND

        on_gpu = ray.is_initialized() and bool(ray.get_gpu_ids())
        best = [RunningTopK(k, on_gpu) for _, k in asked]
        with ThreadPoolExecutor(PARTS_AHEAD) as pool:
            coming = deque(pool.submit(read, part) for part in parts[:PARTS_AHEAD])
            for after in [*parts[PARTS_AHEAD:], *[None] * len(coming)]:
                found = coming.popleft().result()
                if after is not None:
                    coming.append(pool.submit(read, after))
                for (queries_QD, _), running in zip(asked, best, strict=True):
                    running.update(queries_QD, *found)
        return [running.result() for running in best]


class ShardFanOut:
    """`with ShardFanOut(index, "image", cluster, deleted) as shards: shards.search(queries, k, params)`."""

    def __init__(
        self,
        index: Artifact[IndexFacts],
        key: str,
        cluster: ClusterConfig,
        deleted: np.ndarray,
        allowed: Artifact[AllowedFacts] | None = None,
        here: bool = False,
    ) -> None:
        """deleted: pair_ids that no search returns. allowed: the only pairs that may be found; None = all.

        here: this process opens the shards itself, without Ray.
        """
        places = shard_places(index, key)
        self._here = ShardServer(places, deleted, _threads_here(cluster), allowed) if here else None
        self._two_stages = index.facts.kind == IVF_RABITQ
        self._num_lists = 0 if allowed is None else index.facts.num_lists
        self._servers: list[Any] = []
        if here:
            return
        num_servers, num_threads = _width(cluster, len(places))
        start, left_out = _actor(ShardServer, cluster), ray.put(deleted)
        self._servers = [start(places[i::num_servers], left_out, num_threads, allowed) for i in range(num_servers)]

    def search(self, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
        """queries float [Q, D]; returns Hits [Q, k]."""
        step = max(1, min(QUERIES_AT_ONCE, ANSWER_BYTES // (20 * num_candidates(k, params))))
        blocks = [queries_QD[i : i + step].astype(np.float16) for i in range(0, len(queries_QD), step)]
        num_searchers = 1 if self._here else len(self._servers)
        found: list[Hits] = [no_hits(0, k)] * len(blocks)
        waiting: deque[tuple[int, Searching, Any]] = deque()

        def advance(number: int, steps: Searching, answered: list[Any] | None) -> None:
            """Sends the next round of a batch behind those that are waiting, or keeps its hits."""
            try:
                asked = next(steps) if answered is None else steps.send(answered)
            except StopIteration as end:
                found[number] = end.value
            else:
                waiting.append((number, steps, self._send(asked)))

        for number, block in enumerate(blocks):
            advance(number, searching(num_searchers, block, k, params, self._num_lists, self._two_stages), None)
            while len(waiting) > BATCHES_AHEAD:
                number, steps, sent = waiting.popleft()
                advance(number, steps, self._received(sent))
        while waiting:
            number, steps, sent = waiting.popleft()
            advance(number, steps, self._received(sent))
        if len(found) == 1:
            return found[0]
        return Hits(np.concatenate([one.scores for one in found]), np.concatenate([one.pair_ids for one in found]))

    def _send(self, asked: Round) -> list[Any]:
        if self._here:
            return [self._here.answer(asked.method, asked.queries_QD, *each) for each in asked.each]
        queries = ray.put(asked.queries_QD)
        return [
            server.answer.remote(asked.method, queries, *each)
            for server, each in zip(self._servers, asked.each, strict=True)
        ]

    def _received(self, sent: list[Any]) -> list[Any]:
        return sent if self._here else _answers(sent)

    def __enter__(self) -> ShardFanOut:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            ray.kill(server)


def search_exactly(
    embeddings: Artifact[EmbeddingsFacts],
    key: str,
    queries_QD: np.ndarray,
    k: int,
    cluster: ClusterConfig,
    deleted: np.ndarray,
    allowed: Artifact[AllowedFacts] | None = None,
    here: bool = False,
) -> Hits:
    """Search all vectors of a key in one streaming pass. deleted, allowed and here: as in ShardFanOut."""
    return search_all_exactly(embeddings, key, [(queries_QD, k)], cluster, deleted, allowed, here)[0]


def search_all_exactly(
    embeddings: Artifact[EmbeddingsFacts],
    key: str,
    asked: list[tuple[np.ndarray, int]],
    cluster: ClusterConfig,
    deleted: np.ndarray,
    allowed: Artifact[AllowedFacts] | None = None,
    here: bool = False,
) -> list[Hits]:
    """As `search_exactly`, for several sets of queries, each with its k."""
    if here:
        scanner, every = EmbeddingScanner(_threads_here(cluster)), list(range(embeddings.num_parts))
        found = scanner.scan(embeddings, key, every, asked, deleted, allowed)
        return [merge([hits], k) for hits, (_, k) in zip(found, asked, strict=True)]
    num_scanners, num_threads = _width(cluster, embeddings.num_parts)
    start = _actor(EmbeddingScanner, cluster, cluster.gpus_per_actor)
    scanners = [start(num_threads) for _ in range(num_scanners)]
    sets, left_out = ray.put(asked), ray.put(deleted)
    shares = [list(range(i, embeddings.num_parts, num_scanners)) for i in range(num_scanners)]
    try:
        answered = _answers(
            [
                scanner.scan.remote(embeddings, key, share, sets, left_out, allowed)
                for scanner, share in zip(scanners, shares, strict=True)
            ]
        )
        return [merge([hits[i] for hits in answered], k) for i, (_, k) in enumerate(asked)]
    finally:
        for scanner in scanners:
            ray.kill(scanner)


def _width(cluster: ClusterConfig, most: int) -> tuple[int, int]:
    """(processes, threads of each). On one machine, one process with all cores opens everything once."""
    if len(nodes()) == 1:
        return 1, max(1, largest_node_cpus(cluster, "index"))
    return min(most, cluster.num_searchers), cluster.threads_per_actor


def _threads_here(cluster: ClusterConfig) -> int:
    return cluster.num_cpus or os.cpu_count() or 1


def _actor(kind: type, cluster: ClusterConfig, num_gpus: float = 0) -> Callable[..., Any]:
    """A function that starts an actor of this kind, on a node of the index, or on one with GPUs.

    An actor that dies is restarted, and answers what it was asked.
    """
    where = placement(cluster, "embed" if num_gpus else "index")
    return ray.remote(kind).options(num_cpus=1, num_gpus=num_gpus, max_restarts=3, max_task_retries=3, **where).remote


def _answers(waiting: list[Any]) -> list[Any]:
    try:
        return answers(waiting)
    except ray.exceptions.RayActorError as error:
        raise ShardUnavailable(
            f"a shard did not answer after its restarts: {error}; run the same command again"
        ) from error
