"""allow: `retrieve.filters` over the columns of pairs and images, and deletions -> `allowed/`, one bit per pair, before anything is searched.

Next: selection/filters.py, index/allowed.py, then search.py.
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
from react_ray.index.deleted import deleted_pairs
from react_ray.kinds import ALLOWED, EMBEDDINGS, PAIRS, AllowedFacts
from react_ray.manifest import Receipt, part_name
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, ReadNothing, Work, map_parts
from react_ray.section import digest
from react_ray.selection.filters import Condition, check_columns, parse
from react_ray.selection.screen import hosts
from react_ray.vectors import from_vectors

HOST, SIMILARITY = "host", "similarity"  # computed where the source has no such column
NOT_FILTERED = {"pair_id", "image"}


def run(recipe: Recipe, uri: str) -> Artifact:
    """Gives the sealed `allowed`: the parts of pairs, with a column `allowed`. RetrievalError if nothing passes."""
    layout = Layout(recipe)
    pairs = layout.open_database(PAIRS)
    images = layout.open_images() if recipe.retrieve.filters and recipe.download.of == "pairs" else None
    embeddings = layout.open_database(EMBEDDINGS)
    conditions = parse(recipe.retrieve.filters)
    of_pairs = set(_columns(pairs)) - NOT_FILTERED
    of_images = (set(schema.IMAGES.names) - NOT_FILTERED - of_pairs) if images is not None else set()
    check_columns(conditions, sorted(of_pairs | of_images | {HOST, SIMILARITY}))
    given = {"pairs": pairs, "images": images, "embeddings": embeddings}
    parents = {name: artifact for name, artifact in given.items() if artifact is not None}
    deleted = deleted_pairs(recipe.database)
    if HOST not in of_pairs | of_images:
        conditions = [replace(c, values=tuple(map(_as_host, c.values))) if c.column == HOST else c for c in conditions]
    config: dict[str, Any] = {"filters": recipe.retrieve.filters}
    if len(deleted):
        config["deleted"] = digest(deleted.tolist())
    allowed = create(uri, ALLOWED, config, parents, pairs.num_parts)
    if not allowed.sealed:
        stage = MapStage(
            "filter",
            ReadNothing(),
            FilterPart(conditions, pairs, images, embeddings, of_pairs, of_images, deleted, allowed),
            retries=recipe.cluster.part_retries,
        )
        map_parts(stage, allowed.pending(), pairs.num_parts)
        receipts = allowed.receipts()
        passed = {c.text: sum(r.facts["passed"][i] for r in receipts) for i, c in enumerate(conditions)}
        total, kept = sum(r.rows for r in receipts), sum(r.facts["kept"] for r in receipts)
        if not kept:
            each = ", ".join(f"{text!r} {count}" for text, count in passed.items())
            raise RetrievalError(
                f"none of {total} pairs passes retrieve.filters (alone: {each or 'all are deleted'}); relax one, or ingest more pairs"
            )
        return allowed.seal(AllowedFacts(passed, kept, total))
    return allowed.open()


def _as_host(value: str) -> str:
    """As `hosts` writes it."""
    return value.lower().removeprefix("www.")


def _columns(artifact: Artifact) -> list[str]:
    return artifact.storage.parquet(f"{part_name(0)}.parquet").schema_arrow.names if artifact.num_parts else []


class FilterPart(Work):
    def __init__(
        self,
        conditions: list[Condition],
        pairs: Artifact,
        images: Artifact | None,
        embeddings: Artifact,
        of_pairs: set[str],
        of_images: set[str],
        deleted: np.ndarray,
        allowed: Draft[AllowedFacts],
    ) -> None:
        self.conditions, self.pairs, self.images, self.embeddings = conditions, pairs, images, embeddings
        self.of_pairs, self.of_images, self.deleted, self.allowed = of_pairs, of_images, deleted, allowed

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        pair_id = self.pairs.read(part, ["pair_id"])["pair_id"]
        kept = ~np.isin(pair_id.to_numpy(), self.deleted)
        passed = []
        for condition in self.conditions:
            mask = condition.mask(self._column(part, condition.column))
            passed.append(int(mask.sum()))
            kept &= mask
        out = pa.table({"pair_id": pair_id, "allowed": pa.array(kept)})
        return self.allowed.commit(part, out, time.monotonic() - began, passed=passed, kept=int(kept.sum()))

    def _column(self, part: int, name: str) -> pa.ChunkedArray:
        if name in self.of_pairs:
            return self.pairs.read(part, [name])[name]
        if name in self.of_images and self.images is not None:
            return self.images.read(part, [name])[name]
        if name == HOST:
            return hosts(self.pairs.read(part, ["url"])["url"])
        vectors = self.embeddings.read(part, ["image", "text"])
        cosine = np.einsum("nd,nd->n", *(from_vectors(vectors[side]).astype(np.float32) for side in ("image", "text")))
        return pa.chunked_array([pa.array(cosine, from_pandas=True)])
