"""Trains one quantiser per key, which all its shards share, and draws the held-out queries that will measure recall."""

from __future__ import annotations

import os

import numpy as np

from react_ray.artifact import Artifact
from react_ray.errors import RetrievalError
from react_ray.index.config import FLAT, IndexConfig
from react_ray.index.held_out import queries_name, write_queries
from react_ray.index.quantizer import train
from react_ray.index.sample import RunningSample
from react_ray.index.shards import quantizer_name
from react_ray.kinds import EmbeddingsFacts
from react_ray.recipe import ClusterConfig
from react_ray.stages.indexing import key_tasks
from react_ray.storage import open_storage
from react_ray.vectors import from_vectors

PARTS_SAMPLED = 256  # at most, drawn at random, so that training reads a bounded share of any database


def train_lists(
    index_uri: str, embeddings: Artifact[EmbeddingsFacts], config: IndexConfig, seed: int, cluster: ClusterConfig
) -> None:
    """Writes quantiser and queries of each key that has none yet. config: without open choices such as "auto"."""
    tasks = [key_tasks.start(_train, cluster, embeddings, index_uri, key, config, seed) for key in config.keys]
    key_tasks.wait("train lists", tasks)


def _train(embeddings: Artifact[EmbeddingsFacts], index_uri: str, key: str, config: IndexConfig, seed: int) -> None:
    storage = open_storage(index_uri)
    if config.kind == FLAT or storage.exists(queries_name(key)):
        return
    parts = np.arange(embeddings.num_parts)
    if len(parts) > PARTS_SAMPLED:
        parts = np.sort(np.random.default_rng(seed).choice(parts, PARTS_SAMPLED, replace=False))
    sample = RunningSample(config.train_sample, seed)
    held_out = {kind: RunningSample(max(1, config.calibration_queries), seed + 1) for kind in ("image", "text")}
    columns = list(dict.fromkeys(["pair_id", key, *(held_out if config.calibration_queries else [])]))
    for part in parts.tolist():
        table = embeddings.read(part, columns)
        pair_ids = table["pair_id"].to_numpy()
        sample.update(pair_ids, from_vectors(table[key]))
        for kind in columns[1:]:
            if kind in held_out and config.calibration_queries:
                held_out[kind].update(pair_ids, from_vectors(table[kind]))
    vectors_ND = sample.result()
    if not len(vectors_ND):
        raise RetrievalError(f"{embeddings.uri} has no {key} vectors; take {key} out of index.keys, or embed that side")
    quantizer = train(vectors_ND, config, seed, config.train_threads or os.cpu_count() or 1)
    if quantizer is not None:
        storage.write(quantizer_name(key), quantizer)
    none = np.empty(0, np.int64), vectors_ND[:0]
    write_queries(
        storage, key, {kind: drawn.rows() if config.calibration_queries else none for kind, drawn in held_out.items()}
    )
