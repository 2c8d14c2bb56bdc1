"""Applies `retrieve.filters` and deletions before anything is searched: `allowed/` has one bit per pair."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.draft import Draft, create
from react_ray.errors import RetrievalError
from react_ray.kinds import ALLOWED, AllowedFacts
from react_ray.manifest import Receipt
from react_ray.progress import say
from react_ray.recipe import ClusterConfig
from react_ray.runtime.map_parts import MapStage, ReadNothing, Work, map_parts
from react_ray.search.filtered import Filters
from react_ray.section import digest
from react_ray.stages.retrieval.database import Database


def filter_pairs(uri: str, database: Database, filters: list[str], cluster: ClusterConfig) -> Artifact[AllowedFacts]:
    """Returns the sealed `allowed`: the parts of pairs, with a column `allowed`. RetrievalError if no pair passes."""
    pairs, deleted = database.pairs, database.deleted
    images = database.images if filters else None
    over = Filters.over(filters, pairs, database.embeddings, images)
    conditions = over.conditions
    config: dict[str, Any] = {"filters": filters}
    if len(deleted):
        config["deleted"] = digest(deleted.tolist())
    parents = replace(database, images=images).artifacts()
    allowed = create(uri, ALLOWED, config, parents, pairs.num_parts)
    if allowed.sealed:
        return allowed.open()
    work = FilterPart(over, deleted, allowed)
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


class FilterPart(Work):
    """Commits the bits of one part."""

    def __init__(self, filters: Filters, deleted: np.ndarray, allowed: Draft[AllowedFacts]) -> None:
        self.filters, self.deleted, self.allowed = filters, deleted, allowed

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        pair_id = self.filters.pairs.read(part, ["pair_id"])["pair_id"]
        kept = ~np.isin(pair_id.to_numpy(), self.deleted)
        passed, unknown = [], []
        for mask, known in self.filters.judge(part):
            passed.append(int(mask.sum()))
            unknown.append(int((~known).sum()))
            kept &= mask
        out = pa.table({"pair_id": pair_id, "allowed": pa.array(kept)})
        return self.allowed.commit(
            part, out, time.monotonic() - began, passed=passed, unknown=unknown, kept=int(kept.sum())
        )
