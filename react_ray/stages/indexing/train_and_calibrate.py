"""What comes before and after the building of shards, in tasks whose processes end: training of the lists, measuring of recall.

Both take paths and read what they need themselves. Next: index/quantizer.py and index/recall.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from react_ray.artifact import Artifact
from react_ray.errors import RetrievalError
from react_ray.index.config import FLAT, IndexConfig, SearchParams
from react_ray.index.held_out import depths, queries_name, read_queries, read_truth, write_queries
from react_ray.index.list_index import ListIndex
from react_ray.index.merge import Hits
from react_ray.index.quantizer import threads, train
from react_ray.index.recall import HeldOut, calibrate
from react_ray.index.sample import RunningSample
from react_ray.index.shards import ShardPlace, open_shards, quantizer_name, search_shards
from react_ray.kinds import INDEX, IndexFacts
from react_ray.manifest import Manifest
from react_ray.storage import open_storage
from react_ray.vectors import from_vectors

PARTS_SAMPLED = 256  # at most: random ones, so that training reads a bounded share of any database


def prepare(embeddings: Artifact, index_uri: str, key: str, config: IndexConfig, seed: int) -> None:
    """One quantiser per key for all its shards, and the queries that will measure its recall. In a task of its own."""
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


def measure(
    uri: str, key: str, facts: IndexFacts, calibration_k: int, num_threads: int
) -> tuple[str, list[dict[str, Any]]]:
    """(family, rows of the calibration) of all shards of a key, opened in one process."""
    index = _provisional(uri, facts)
    shards = open_shards([ShardPlace(index, key, shard) for shard in range(facts.num_shards)])
    held_out = {}
    for kind, (own, asking) in read_queries(open_storage(uri), key).items():
        truths = [read_truth(index, key, kind, depth) for depth in depths(calibration_k)]

        def search(num: int, k: int, params: SearchParams, asking: np.ndarray = asking) -> Hits:
            _forget(shards)
            return search_shards(shards, asking[:num], k, params)

        def propose(num: int, count: int, nprobe: int, asking: np.ndarray = asking) -> Hits:
            (one,) = shards  # ivf-rabitq: all of a build share a quantiser
            assert isinstance(one, ListIndex)
            _forget(shards)
            return one.propose(asking[:num], count, nprobe)

        if truths[0].valid.any():
            held_out[kind] = HeldOut(search, propose, truths, own)
    with threads(num_threads):
        return shards[0].family, calibrate(held_out, shards[0].family, shards[0].num_lists)


def _forget(shards: Sequence[Any]) -> None:
    """Each setting begins with the memory of the index alone."""
    for one in shards:
        if isinstance(one, ListIndex):
            one.cold.forget()


def _provisional(uri: str, facts: IndexFacts) -> Artifact[IndexFacts]:
    """The index whose shards are all there, opened before it is sealed: its recall becomes part of its manifest."""
    num_parts = len(facts.keys) * facts.num_shards
    manifest = Manifest(INDEX.name, {}, {}, num_parts, 0, 0, 0, 0.0, "", asdict(facts))
    return Artifact(open_storage(uri), INDEX, manifest)
