"""Looks the selected pairs up by arithmetic: `selected/` -> `retrieved/` and its `images/`.

`retrieved` has the rows of `pairs` and the reason for which each was taken. `images` beside it has the same rows in the
same order and in the same row groups, so that training reads the two side by side. With `download.of=retrieved` the
image bytes are not there yet, and download makes `images` later.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.draft import Draft, create
from react_ray.kinds import IMAGES, RETRIEVED, NoFacts, QueriesFacts, RetrievedFacts, SelectedFacts
from react_ray.manifest import Receipt
from react_ray.parquet import group_rows
from react_ray.recipe import ClusterConfig
from react_ray.runtime.map_parts import MapStage, ReadPart, Work, map_parts
from react_ray.search.gather import gather
from react_ray.stages.retrieval.database import Database
from react_ray.storage import join
from react_ray.vectors import from_vectors

GROUP_ROWS_WITHOUT_IMAGES = 128  # 4 MB of images of 30 kB


def gather_pairs(
    root: str,
    database: Database,
    queries: Artifact[QueriesFacts],
    selected: Artifact[SelectedFacts],
    counts_for_nearest: bool,
    cluster: ClusterConfig,
) -> Artifact[RetrievedFacts]:
    """Returns the sealed `retrieved` below `root`.

    counts_for_nearest: the pairs were drawn at random, so each counts for the class that its caption is nearest to.
    """
    parents: dict[str, Artifact] = database.artifacts() | {"queries": queries, "selected": selected}
    config, num_parts = selected.manifest.config, selected.num_parts
    retrieved = create(join(root, "retrieved"), RETRIEVED, config, parents, num_parts)
    images = create(join(root, "images"), IMAGES, config, parents, num_parts) if database.images else None
    stage = MapStage(
        "gather",
        ReadPart(selected),
        GatherPart(database, queries, counts_for_nearest, retrieved, images),
        retries=cluster.part_retries,
        light=database.is_small,
    )
    map_parts(stage, sorted({*retrieved.pending(), *(images.pending() if images else [])}), num_parts)
    if images:
        images.seal()
    facts = database.embeddings.facts
    return retrieved.seal(RetrievedFacts(facts.backbone, facts.dim, selected.facts.summary))


class GatherPart(Work):
    def __init__(
        self,
        database: Database,
        queries: Artifact[QueriesFacts],
        counts_for_nearest: bool,
        retrieved: Draft[RetrievedFacts],
        images: Draft[NoFacts] | None,
    ) -> None:
        self.database, self.queries, self.counts_for_nearest = database, queries, counts_for_nearest
        self.retrieved, self.images = retrieved, images

    def setup(self) -> None:
        self.class_CD = class_vectors(self.queries)

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        pair_ids = table["pair_id"].to_numpy()
        pairs = gather(self.database.pairs, pair_ids)
        vectors = gather(self.database.embeddings, pair_ids, ["pair_id", "text"])
        rows = pairs
        if self.counts_for_nearest:
            class_id = (from_vectors(vectors["text"]).astype(np.float32) @ self.class_CD.T).argmax(axis=1)
            table = table.set_column(table.column_names.index("class_id"), "class_id", pa.array(class_id, pa.int32()))
        for name in ("class_id", "score", "matches"):
            rows = rows.append_column(name, table[name])
        rows = rows.append_column("text_embedding", vectors["text"])
        shape = schema.retrieved(self.database.embeddings.facts.dim, pairs.schema)
        facts: dict[str, Any] = {}
        rows_per_group = GROUP_ROWS_WITHOUT_IMAGES
        if self.database.images is not None and self.images is not None:
            images = gather(self.database.images, pair_ids)
            usable, rows_per_group = trainable(images, rows), group_rows(images)
            facts["trainable"] = pc.sum(usable).as_py() or 0
            if rows_per_group < len(rows):
                groups = (usable.slice(at, rows_per_group) for at in range(0, len(rows), rows_per_group))
                facts["trainable_by_group"] = [pc.sum(group).as_py() or 0 for group in groups]
            self.images.commit(part, images, time.monotonic() - began)
        found, seconds = schema.conform(rows, shape), time.monotonic() - began
        return self.retrieved.commit(part, found, seconds, rows_per_group=rows_per_group, **facts)


def trainable(images: pa.Table, retrieved: pa.Table, needed: str = "text_embedding") -> pa.ChunkedArray:
    """True for rows that training can use: they have an image, and a caption or its vector, as `needed` says."""
    has = pc.is_valid(retrieved[needed])
    if needed == "caption":
        has = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(retrieved[needed]), ""), False)
    return pc.and_(pc.equal(images["status"], schema.OK), has)


def class_vectors(queries: Artifact[QueriesFacts]) -> np.ndarray:
    """Returns float32 [C, D], unit norm: the mean of each class's prompts; of its seed images if it has no prompt.

    Text and image vectors lie apart in CLIP's space (the modality gap), so a mean of both would be like neither.
    """
    table = pa.concat_tables(queries.tables(["class_id", "modality", "embedding"]))
    class_id, is_text = table["class_id"].to_numpy(), pc.equal(table["modality"], "text").to_numpy()
    counted = is_text | ~np.isin(class_id, class_id[is_text])
    sums_CD = np.zeros((queries.facts.num_classes, queries.facts.dim), np.float64)
    vectors = from_vectors(table["embedding"])[counted]
    np.add.at(sums_CD, class_id[counted], vectors.astype(np.float64))
    return (sums_CD / np.linalg.norm(sums_CD, axis=1, keepdims=True)).astype(np.float32)
