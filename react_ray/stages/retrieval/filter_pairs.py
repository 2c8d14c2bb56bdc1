"""Applies `retrieve.filters` and deletions before anything is searched: `allowed/` has one bit per pair.

The conditions may name columns of pairs and images, and two computed ones, the host and the similarity.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.draft import Draft, create
from react_ray.errors import RetrievalError
from react_ray.kinds import ALLOWED, AllowedFacts
from react_ray.manifest import Receipt, part_name
from react_ray.progress import say
from react_ray.recipe import ClusterConfig
from react_ray.runtime.map_parts import MapStage, ReadNothing, Work, map_parts
from react_ray.section import digest
from react_ray.selection.filters import Condition, check_columns, parse
from react_ray.selection.screen import hosts
from react_ray.stages.retrieval.database import Database
from react_ray.vectors import from_vectors

HOST, SIMILARITY = "host", "similarity"  # computed where the source has no such column
NOT_FILTERED = {"pair_id", "image"}


def filter_pairs(uri: str, database: Database, filters: list[str], cluster: ClusterConfig) -> Artifact[AllowedFacts]:
    """Returns the sealed `allowed`: the parts of pairs, with a column `allowed`. RetrievalError if no pair passes."""
    pairs, deleted = database.pairs, database.deleted
    images = database.images if filters else None
    conditions = parse(filters)
    of_pairs = set(_columns(pairs)) - NOT_FILTERED
    of_images = (set(schema.IMAGES.names) - NOT_FILTERED - of_pairs) if images is not None else set()
    check_columns(conditions, sorted(of_pairs | of_images | {HOST, SIMILARITY}))
    if HOST not in of_pairs | of_images:
        conditions = [replace(c, values=tuple(map(_as_host, c.values))) if c.column == HOST else c for c in conditions]
    config: dict[str, Any] = {"filters": filters}
    if len(deleted):
        config["deleted"] = digest(deleted.tolist())
    parents = replace(database, images=images).artifacts()
    allowed = create(uri, ALLOWED, config, parents, pairs.num_parts)
    if allowed.sealed:
        return allowed.open()
    work = FilterPart(conditions, replace(database, images=images), of_pairs, of_images, allowed)
    stage = MapStage("filter", ReadNothing(), work, retries=cluster.part_retries, light=database.is_small)
    map_parts(stage, allowed.pending(), pairs.num_parts)
    receipts = allowed.receipts()
    passed = {c.text: sum(r.facts["passed"][i] for r in receipts) for i, c in enumerate(conditions)}
    total, kept = sum(r.rows for r in receipts), sum(r.facts["kept"] for r in receipts)
    for i, condition in enumerate(conditions):
        if unknown := sum(r.facts.get("unknown", [0] * len(conditions))[i] for r in receipts):
            say(f"filter     {condition.text!r}: {unknown:,} of {total:,} pairs have no value to compare: not kept")
    if not kept:
        each = ", ".join(f"{text!r} {count}" for text, count in passed.items())
        raise RetrievalError(
            f"none of {total} pairs passes retrieve.filters (alone: {each or 'all are deleted'}); relax one, or ingest "
            "more pairs"
        )
    return allowed.seal(AllowedFacts(passed, kept, total))


def _as_host(value: str) -> str:
    """The form in which `hosts` writes a host."""
    return value.lower().removeprefix("www.")


def _columns(artifact: Artifact) -> list[str]:
    return artifact.storage.parquet(f"{part_name(0)}.parquet").schema_arrow.names if artifact.num_parts else []


class FilterPart(Work):
    """Commits the bits of one part. `of_pairs` and `of_images` say which columns are read where."""

    def __init__(
        self,
        conditions: list[Condition],
        database: Database,
        of_pairs: set[str],
        of_images: set[str],
        allowed: Draft[AllowedFacts],
    ) -> None:
        self.conditions, self.database, self.allowed = conditions, database, allowed
        self.of_pairs, self.of_images = of_pairs, of_images

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        pair_id = self.database.pairs.read(part, ["pair_id"])["pair_id"]
        kept = ~np.isin(pair_id.to_numpy(), self.database.deleted)
        passed, unknown = [], []
        for condition in self.conditions:
            mask, known = condition.judge(self._column(part, condition.column))
            passed.append(int(mask.sum()))
            unknown.append(int((~known).sum()))
            kept &= mask
        out = pa.table({"pair_id": pair_id, "allowed": pa.array(kept)})
        return self.allowed.commit(
            part, out, time.monotonic() - began, passed=passed, unknown=unknown, kept=int(kept.sum())
        )

    def _column(self, part: int, name: str) -> pa.ChunkedArray:
        database = self.database
        if name in self.of_pairs:
            return database.pairs.read(part, [name])[name]
        if name in self.of_images and database.images is not None:
            return database.images.read(part, [name])[name]
        if name == HOST:
            return hosts(database.pairs.read(part, ["url"])["url"])
        vectors = database.embeddings.read(part, ["image", "text"])
        sides = (from_vectors(vectors[side]).astype(np.float32) for side in ("image", "text"))
        return pa.chunked_array([pa.array(np.einsum("nd,nd->n", *sides), from_pandas=True)])
