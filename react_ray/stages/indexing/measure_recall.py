"""Measures the recall of a built index at many settings, from which searches choose the cheapest for their target."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.draft import Draft
from react_ray.index.config import IndexConfig, SearchParams
from react_ray.index.held_out import depths, read_queries, read_truth
from react_ray.index.list_index import ListIndex
from react_ray.index.merge import Hits
from react_ray.index.quantizer import threads
from react_ray.index.recall import HeldOut, calibrate
from react_ray.index.search_shards import search_shards
from react_ray.index.shards import ShardPlace, open_shards
from react_ray.kinds import INDEX, IndexFacts
from react_ray.manifest import Manifest
from react_ray.parquet import parquet_bytes
from react_ray.recipe import ClusterConfig
from react_ray.stages.indexing import key_tasks
from react_ray.storage import open_storage


def measure_recall(
    index: Draft[IndexFacts], facts: IndexFacts, config: IndexConfig, cluster: ClusterConfig
) -> IndexFacts:
    """Returns the facts with the table of recalls, which is also written as calibration.parquet."""
    num_threads = config.train_threads or os.cpu_count() or 1
    families: list[str] = []
    table: dict[str, list[dict[str, Any]]] = {}
    for key in config.keys:  # one after the other: each uses all threads of its machine
        task = key_tasks.start(_measure, cluster, index.uri, key, facts, config.calibration_k, num_threads)
        ((family, table[key]),) = key_tasks.wait("calibrate", [task])
        families.append(family)
    rows = [{"key": key, **row} for key, found in table.items() for row in found]
    if rows:
        index.storage.write("calibration.parquet", parquet_bytes(pa.Table.from_pylist(rows)))
    return replace(facts, family=families[0], calibration=table)


def _measure(
    uri: str, key: str, facts: IndexFacts, calibration_k: int, num_threads: int
) -> tuple[str, list[dict[str, Any]]]:
    """Returns (family, rows of the calibration) of all shards of a key, opened in one process."""
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
            _, rows = one.propose(asking[:num], count, nprobe)
            return Hits(one.scores(asking[:num], rows), one.cold.pair_ids(rows))

        if truths[0].valid.any():
            held_out[kind] = HeldOut(search, propose, truths, own)
    family, num_lists = shards[0].family, shards[0].num_lists
    with threads(num_threads):
        return family, calibrate(held_out, family, num_lists, facts.rows[key] / max(num_lists, 1))


def _forget(shards: Sequence[Any]) -> None:
    """Unmaps cold codes, so that every setting starts with the memory of the index alone."""
    for one in shards:
        if isinstance(one, ListIndex):
            one.cold.forget()


def _provisional(uri: str, facts: IndexFacts) -> Artifact[IndexFacts]:
    """Opens an index whose shards are complete before it is sealed, because its recall becomes part of its manifest."""
    num_parts = len(facts.keys) * facts.num_shards
    manifest = Manifest(INDEX.name, {}, {}, num_parts, 0, 0, 0, 0.0, "", facts=asdict(facts))
    return Artifact(open_storage(uri), INDEX, manifest)
