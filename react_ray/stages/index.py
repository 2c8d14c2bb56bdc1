"""index: `embeddings/` -> `index/`, shards of FAISS over image keys and text keys. Next: index/shard.py, then retrieve.py.

Part number = key * num_shards + shard. A shard takes parts round-robin, so that losing one costs recall evenly. Vectors
never pass through the driver: each task reads the embeddings of its shard and writes one file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact, Receipt, create, open_artifact
from react_ray.index.config import IndexConfig
from react_ray.index.quantizer import RunningSample, train
from react_ray.index.shard import build_shard
from react_ray.recipe import Recipe
from react_ray.stages.cluster import placement, require_memory
from react_ray.stages.layout import Layout
from react_ray.stages.run_parts import Work, run_parts
from react_ray.storage import open_storage
from react_ray.vectors import from_vectors


def run(recipe: Recipe) -> Artifact:
    layout = Layout(recipe)
    embeddings = layout.open_database("embeddings", "embed")
    config = recipe.index
    num_parts = len(config.keys) * config.num_shards
    index = create(
        layout.database("index"),
        "index",
        config.digested() | {"seed": recipe.seed if config.kind != "flat" else 0},
        {"embeddings": embeddings},
        num_parts,
    )
    if index.sealed:
        return index
    assert embeddings.manifest is not None
    dim = embeddings.facts["dim"]
    shard_gb = embeddings.manifest.rows / config.num_shards * dim * 4 / 2**30
    require_memory(recipe.cluster, 0.5 + 2 * shard_gb, 1, "index")
    for key in config.keys:
        _train_once(embeddings, index, key, config, recipe.seed)
    run_parts(
        "index",
        index.pending(),
        num_parts,
        _Read(),
        BuildShard,
        (embeddings, index, config),
        recipe.cluster.part_retries,
        "vectors",
        options=placement(recipe.cluster, "index"),
    )
    return index.seal(dim=dim, keys=config.keys, num_shards=config.num_shards, backbone=embeddings.facts["backbone"])


def shard_file(key: str, shard: int) -> str:
    return f"{key}-{shard:05d}.faiss"


def _train_once(embeddings: Artifact, index: Artifact, key: str, config: IndexConfig, seed: int) -> None:
    """One coarse quantiser per key, from a random sample over all parts, shared by all shards."""
    storage = open_storage(index.uri)
    name = f"quantizer-{key}.faiss"
    if config.kind == "flat" or storage.exists(name):
        return
    sample = RunningSample(config.train_sample, seed)
    for part in range(embeddings.num_parts):
        table = embeddings.read(part, ["pair_id", key])
        sample.update(table["pair_id"].to_numpy(), from_vectors(table[key]))
    quantizer = train(sample.result(), config, seed)
    if quantizer is not None:
        storage.write(name, quantizer)


class _Read:
    """Shards read their own embeddings: nothing goes through the object store but the number of the shard."""

    def __call__(self, part: int) -> pa.Table:
        return pa.table({})


class BuildShard(Work):
    def __init__(self, embeddings: Artifact, index: Artifact, config: IndexConfig) -> None:
        self.embeddings, self.index, self.config = embeddings, index, config

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        key = self.config.keys[part // self.config.num_shards]
        shard = part % self.config.num_shards
        storage = open_storage(self.index.uri)
        name = f"quantizer-{key}.faiss"
        quantizer = storage.read(name) if storage.exists(name) else None
        embeddings = open_artifact(self.embeddings.uri, "embeddings")

        def vectors() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for source in range(shard, embeddings.num_parts, self.config.num_shards):
                columns = embeddings.read(source, ["pair_id", key])
                yield columns["pair_id"].to_numpy(), from_vectors(columns[key])

        built = build_shard(vectors(), self.config, quantizer)
        return self.index.commit_files(
            part, {shard_file(key, shard): built.to_bytes()}, time.monotonic() - began, built.num_vectors
        )
