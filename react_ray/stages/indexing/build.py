"""Builds an index, or a delta of one, over some parts of the embeddings."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import ray

from react_ray.artifact import Artifact, open_artifact, plan_of
from react_ray.draft import Draft, create
from react_ray.errors import RetrievalError
from react_ray.index.config import FLAT, IndexConfig
from react_ray.index.deleted import deleted_pairs
from react_ray.index.held_out import queries_name
from react_ray.index.plan import IndexPlan
from react_ray.index.shards import files_checksum, quantizer_name
from react_ray.kinds import INDEX, PAIRS, EmbeddingsFacts, IndexFacts
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, ReadNothing, map_parts
from react_ray.runtime.placement import largest_node_cpus, placement
from react_ray.runtime.resources import require_disk, require_memory
from react_ray.stages.indexing import compaction
from react_ray.stages.indexing.build_shard import BuildShard
from react_ray.stages.indexing.measure_recall import measure_recall
from react_ray.stages.indexing.plan import plan, stated
from react_ray.stages.indexing.train_lists import train_lists
from react_ray.storage import open_storage

METADATA = 3  # bytes of metadata per byte of pairs/, which is compressed


def build(
    recipe: Recipe,
    embeddings: Artifact[EmbeddingsFacts],
    uri: str,
    parts: list[int],
    base: Artifact[IndexFacts] | None = None,
) -> Artifact[IndexFacts]:
    """Returns the sealed index over these parts. With a base it is a delta: it has the base's quantiser and
    calibration."""
    settled = base.facts.settled if base else compaction.settled(open_storage(uri))
    planned = plan(recipe.index, embeddings, parts, settled)
    settled = settled or {"kind": planned.kind, "num_lists": planned.num_lists, "train_sample": planned.train_sample}
    config = recipe.index.model_copy(update=settled | {"num_shards": min(planned.num_shards, len(parts))})
    pairs = _pairs(recipe, embeddings) if config.metadata else None
    index = _draft(uri, config, recipe.seed, embeddings, pairs, base)
    if index.sealed:
        return index.open()
    _require_room(recipe, uri, planned, pairs)
    if base is None:
        train_lists(index.uri, embeddings, config, recipe.seed, recipe.cluster)
    else:
        _copy_quantisers(base, index, config)
    _build_shards(recipe, index, config, embeddings, pairs, parts)
    facts = _facts(index, config, embeddings, parts, settled)
    if base is not None:
        facts = replace(facts, family=base.facts.family, calibration=base.facts.calibration)
    elif not sum(facts.rows.values()):
        raise RetrievalError(
            f"{embeddings.uri} has no vectors of {config.keys}: every row failed; look at its statuses, then embed "
            "again or set index.keys"
        )
    elif config.kind != FLAT:
        facts = measure_recall(index, facts, config, recipe.cluster)
    sealed = index.seal(facts)
    compaction.done(index.storage)
    return sealed


def _pairs(recipe: Recipe, embeddings: Artifact[EmbeddingsFacts]) -> Artifact[Any] | None:
    """Returns the pairs of these embeddings, or None if the vectors came without. Pairs may have more parts: ingest is
    ahead."""
    uri = Layout(recipe).database("pairs")
    if not plan_of(uri):
        return None
    pairs = open_artifact(uri, PAIRS)
    return pairs if pairs.num_parts >= embeddings.num_parts else None


def _draft(
    uri: str,
    config: IndexConfig,
    seed: int,
    embeddings: Artifact[EmbeddingsFacts],
    pairs: Artifact[Any] | None,
    base: Artifact[IndexFacts] | None,
) -> Draft[IndexFacts]:
    parents: dict[str, Artifact[Any]] = {"embeddings": embeddings}
    parents |= ({"pairs": pairs} if pairs else {}) | ({"base": base} if base else {})
    now = {name: parent.content for name, parent in parents.items()}
    if base is not None and plan_of(uri).get("parents", now) != now:
        open_storage(uri).delete_all()  # a delta that was killed, of fewer parts than there are now
    return create(uri, INDEX, stated(config, seed), parents, len(config.keys) * config.num_shards)


def _require_room(recipe: Recipe, uri: str, planned: IndexPlan, pairs: Artifact[Any] | None) -> None:
    """Prints what the build will take, and raises ResourceError if memory or disk are too small."""
    num_keys = len(recipe.index.keys)
    metadata_bytes = METADATA * (pairs.manifest.bytes if pairs else 0)
    for line in planned.lines(num_keys, metadata_bytes):
        print(line, file=sys.stderr)
    require_memory(recipe.cluster, 0.5 + planned.build_bytes / 2**30, 1, "index")
    require_disk(uri, (num_keys * planned.disk_bytes + metadata_bytes) / 2**30, "index")


def _copy_quantisers(base: Artifact[IndexFacts], index: Draft[IndexFacts], config: IndexConfig) -> None:
    for key in config.keys:
        for name in (quantizer_name(key), queries_name(key)):
            if base.storage.exists(name) and not index.storage.exists(name):
                index.storage.write(name, base.storage.read(name))


def _build_shards(
    recipe: Recipe,
    index: Draft[IndexFacts],
    config: IndexConfig,
    embeddings: Artifact[EmbeddingsFacts],
    pairs: Artifact[Any] | None,
    parts: list[int],
) -> None:
    cores = int(ray.cluster_resources().get("CPU", 1)) // index.num_parts
    num_threads = max(1, min(cores, largest_node_cpus(recipe.cluster, "index")))
    stage = MapStage(
        "index",
        ReadNothing(),
        BuildShard(embeddings, pairs, index, config, parts, deleted_pairs(recipe.database), num_threads),
        noun="vectors",
        options={"num_cpus": num_threads} | placement(recipe.cluster, "index"),
        retries=recipe.cluster.part_retries,
    )
    map_parts(stage, index.pending(), index.num_parts)


def _facts(
    index: Draft[IndexFacts],
    config: IndexConfig,
    embeddings: Artifact[EmbeddingsFacts],
    parts: list[int],
    settled: dict[str, Any],
) -> IndexFacts:
    of_embeddings, receipts = embeddings.receipts(), index.receipts()
    return IndexFacts(
        kind=config.kind,
        keys=list(config.keys),
        num_shards=config.num_shards,
        dim=int(embeddings.facts.dim),
        num_lists=config.num_lists,
        backbone=embeddings.facts.backbone,
        settled=settled,
        covers={str(part): files_checksum(of_embeddings[part]) for part in parts},
        rows={
            key: sum(receipt.rows for receipt in receipts if receipt.part // config.num_shards == number)
            for number, key in enumerate(config.keys)
        },
    )
