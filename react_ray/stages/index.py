"""index: `embeddings/` -> `index/`, shards of FAISS over image keys and text keys.

Sample and train once; build shards in parallel, a part of embeddings at a time; measure recall. Tasks get paths and part
numbers, vectors never pass through Ray. Each step is kept: a killed build goes on with the shards that are missing. Parts
that were embedded since become a delta beside the base, without a rebuild; `compact` makes base and deltas one again.
A shard takes parts round-robin, so that losing one costs recall evenly. Next: index_tasks.py and build_shard.py, then retrieve.py.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray

from react_ray.artifact import Artifact, open_artifact, plan_of
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch, RetrievalError
from react_ray.index.config import AUTO, FLAT, IndexConfig
from react_ray.index.deleted import deleted_pairs
from react_ray.index.held_out import queries_name
from react_ray.index.plan import IndexPlan, plan_index
from react_ray.index.shards import DELTAS, check_covers, deltas, files_checksum, quantizer_name, uncovered
from react_ray.kinds import EMBEDDINGS, INDEX, PAIRS, IndexFacts
from react_ray.manifest import BUILDING, MANIFEST
from react_ray.parquet import parquet_bytes
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.runtime.cluster import answers
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, ReadNothing, map_parts
from react_ray.runtime.placement import largest_node_cpus, placement
from react_ray.runtime.resources import require_disk, require_memory
from react_ray.stages.indexing.build_shard import BuildShard
from react_ray.stages.indexing.train_and_calibrate import measure, prepare
from react_ray.storage import Storage, join, open_storage

COMPACTING, SETTLED = "compacting.json", "settled.json"  # what the plan was; before and after the old shards are gone
METADATA = 3  # bytes beside the shards for one of pairs/, which is compressed


def run(recipe: Recipe) -> Artifact:
    """Gives the sealed base; what was embedded since it was built is in a delta then."""
    layout = Layout(recipe)
    embeddings = layout.open_database(EMBEDDINGS)
    uri = layout.database("index")
    _clear_compacting(open_storage(uri))
    if open_storage(uri).exists(MANIFEST):
        base = open_artifact(uri, INDEX)
        _require_same(base, recipe, embeddings)
        added = uncovered(base, embeddings)
        if added:
            _build(recipe, embeddings, join(uri, DELTAS, f"{len(deltas(base)) + 1:05d}"), added, base)
        return base
    return _build(recipe, embeddings, uri, list(range(embeddings.num_parts)), None)


def compact(recipe: Recipe) -> Artifact:
    """Base and deltas as one index again, with the same quantiser and without deleted pairs. Until it is done there is
    no index; after a kill, the same command goes on."""
    layout = Layout(recipe)
    embeddings = layout.open_database(EMBEDDINGS)
    uri = layout.database("index")
    storage = open_storage(uri)
    if storage.exists(MANIFEST):
        base = open_artifact(uri, INDEX)
        _require_same(base, recipe, embeddings)
        _planned(
            recipe, embeddings, list(range(embeddings.num_parts)), base.facts.settled
        )  # raises before anything goes
        storage.write(COMPACTING, json.dumps(base.facts.settled).encode())
    return run(recipe)


def _clear_compacting(storage: Storage) -> None:
    """The old index goes, wherever a kill has stopped that: receipts that were left would pass for those of the new one."""
    if not storage.exists(COMPACTING):
        return
    for path in sorted(storage.list(), key=lambda path: path != MANIFEST):  # first of all, it is no index
        if path.startswith(("part-", f"{DELTAS}/")) or path in (MANIFEST, BUILDING):
            storage.delete(path)
    storage.write(SETTLED, storage.read(COMPACTING))
    storage.delete(COMPACTING)


def _build(recipe: Recipe, embeddings: Artifact, uri: str, parts: list[int], base: Artifact | None) -> Artifact:
    """An index over these parts of the embeddings; with a base, by its quantiser and under its calibration."""
    receipts = embeddings.receipts()
    dim = int(embeddings.facts.dim)
    settled = {} if base is None else base.facts.settled
    if base is None and open_storage(uri).exists(SETTLED):
        settled = json.loads(open_storage(uri).read(SETTLED))
    plan = _planned(recipe, embeddings, parts, settled)
    settled = settled or {"kind": plan.kind, "num_lists": plan.num_lists, "train_sample": plan.train_sample}
    config = recipe.index.model_copy(update=settled | {"num_shards": min(plan.num_shards, len(parts))})
    pairs = _pairs(recipe, embeddings, config)
    parents = {"embeddings": embeddings} | ({"pairs": pairs} if pairs else {}) | ({"base": base} if base else {})
    now = {name: parent.content for name, parent in parents.items()}
    if base is not None and plan_of(uri).get("parents", now) != now:
        open_storage(uri).delete_all()  # a delta that was killed, of fewer parts than there are now
    index = create(uri, INDEX, _digested(recipe, config), parents, len(config.keys) * config.num_shards)
    if index.sealed:
        return index.open()
    metadata_bytes = METADATA * (pairs.manifest.bytes if pairs else 0)
    for line in plan.lines(len(config.keys), metadata_bytes):
        print(line, file=sys.stderr)
    require_memory(recipe.cluster, 0.5 + plan.build_bytes / 2**30, 1, "index")
    require_disk(uri, len(config.keys) * (plan.hot_bytes + plan.cold_bytes + metadata_bytes) / 2**30, "index")
    if base is not None:
        for key in config.keys:
            for name in (quantizer_name(key), queries_name(key)):
                if base.storage.exists(name) and not index.storage.exists(name):
                    index.storage.write(name, base.storage.read(name))
    else:
        where = placement(recipe.cluster, "index")
        training = ray.remote(max_calls=1)(prepare).options(
            num_cpus=1, **where
        )  # its process ends, and gives its memory back
        _shown("train lists", [training.remote(embeddings, index.uri, key, config, recipe.seed) for key in config.keys])
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
    facts = IndexFacts(
        kind=config.kind,
        keys=list(config.keys),
        num_shards=config.num_shards,
        dim=dim,
        num_lists=config.num_lists,
        backbone=embeddings.facts.backbone,
        settled=settled,
        covers={str(part): files_checksum(receipts[part]) for part in parts},
        rows={
            key: sum(r.rows for r in index.receipts() if r.part // config.num_shards == number)
            for number, key in enumerate(config.keys)
        },
    )
    if base is None and not sum(facts.rows.values()):
        raise RetrievalError(
            f"{embeddings.uri} has no vectors of {config.keys}: every row failed; look at its statuses, then embed again or set index.keys"
        )
    if base is not None:
        facts = replace(facts, family=base.facts.family, calibration=base.facts.calibration)
    elif config.kind != FLAT:
        facts = _calibrated(recipe, index, config, facts)
    sealed = index.seal(facts)
    index.storage.delete(SETTLED)
    return sealed


def _planned(recipe: Recipe, embeddings: Artifact, parts: list[int], settled: dict[str, Any]) -> IndexPlan:
    """settled: what the first plan of this index decided; {} for the first."""
    receipts = embeddings.receipts()
    num_vectors = sum(receipts[part].rows for part in parts)
    return plan_index(num_vectors, int(embeddings.facts.dim), recipe.index.model_copy(update=settled), len(parts))


def _require_same(base: Artifact, recipe: Recipe, embeddings: Artifact) -> None:
    """The base is kept where the recipe asks for what it is, and what it covers has not changed."""
    plan = plan_of(base.uri)["config"]
    config = recipe.index
    settled: dict[str, Any] = {"train_sample": plan["train_sample"]}
    settled |= {"kind": plan["kind"]} if config.kind == AUTO else {}
    settled |= {"num_lists": plan["num_lists"]} if not config.num_lists else {}
    settled["num_shards"] = min(config.num_shards, len(base.facts.covers)) or plan["num_shards"]
    for name, value in _digested(recipe, config.model_copy(update=settled)).items():
        if plan.get(name) != value:
            raise ArtifactMismatch(
                f"{base.uri} was built with index.{name}={plan.get(name)!r}, now {value!r}; use another `database`, or delete that directory"
            )
    check_covers(base, embeddings)


def _digested(recipe: Recipe, config: IndexConfig) -> dict[str, Any]:
    """What the bytes of an index depend on: not how it is searched, nor the budgets from which it was planned."""
    names = (
        "kind",
        "num_lists",
        "num_shards",
        "keys",
        "train_sample",
        "calibration_queries",
        "calibration_k",
        "metadata",
    )
    return {name: getattr(config, name) for name in names} | {"seed": recipe.seed if config.kind != FLAT else 0}


def _pairs(recipe: Recipe, embeddings: Artifact, config: IndexConfig) -> Artifact | None:
    """The pairs of these parts, if there are any: vectors may have come without. They may be ahead: ingest goes first."""
    uri = Layout(recipe).database("pairs")
    if not config.metadata or not plan_of(uri):
        return None
    pairs = open_artifact(uri, PAIRS)
    return pairs if pairs.num_parts >= embeddings.num_parts else None


def _calibrated(recipe: Recipe, index: Draft[IndexFacts], config: IndexConfig, facts: IndexFacts) -> IndexFacts:
    """The table of recalls, in the manifest and as a file; says what the recall asked for will cost."""
    measuring = ray.remote(max_calls=1)(measure).options(num_cpus=1, **placement(recipe.cluster, "index"))
    threads_each = config.train_threads or os.cpu_count() or 1
    found = [
        _shown("calibrate", [measuring.remote(index.uri, key, facts, config.calibration_k, threads_each)])[0]
        for key in config.keys
    ]
    table: dict[str, list[dict[str, Any]]] = {key: rows for key, (_, rows) in zip(config.keys, found, strict=True)}
    flat = [{"key": key, **row} for key, rows in table.items() for row in rows]
    if flat:
        index.storage.write("calibration.parquet", parquet_bytes(pa.Table.from_pylist(flat)))
    return replace(facts, family=found[0][0], calibration=table)


def _shown(stage: str, asked: list[Any]) -> list[Any]:
    """`answers`, with a sign of life."""
    with Progress(stage, len(asked), "keys", unit="keys") as progress:
        waiting = asked
        while waiting:
            done, waiting = ray.wait(waiting, timeout=1.0)
            progress.advance(rows=len(done), done=len(done))
    return answers(asked)
