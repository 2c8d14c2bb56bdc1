"""collect: `selected/` -> `retrieved/` and its `images/`: look the pairs up by arithmetic, keep their bytes.

`retrieved` has the rows of `pairs` and why each was taken; `images` beside it has the same rows in the same order, so
training reads the two side by side. With `download.of=retrieved` there are no bytes yet: download makes `images`. Next: customize.py.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.draft import Draft, create
from react_ray.index.ordering import distinct
from react_ray.kinds import EMBEDDINGS, IMAGES, PAIRS, RETRIEVED, NoFacts, RetrievedFacts
from react_ray.manifest import Receipt
from react_ray.pair_id import part_of, row_of
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, ReadPart, Work, map_parts
from react_ray.storage import join
from react_ray.vectors import from_vectors


def run(recipe: Recipe, root: str, queries: Artifact, selected: Artifact) -> Artifact:
    """Gives the sealed `retrieved` below `root`."""
    layout = Layout(recipe)
    pairs = layout.open_database(PAIRS)
    images = layout.open_images() if recipe.download.of == "pairs" else None
    embeddings = layout.open_database(EMBEDDINGS)
    given = {"pairs": pairs, "images": images, "embeddings": embeddings, "queries": queries, "selected": selected}
    parents = {name: artifact for name, artifact in given.items() if artifact is not None}
    config, num_parts = selected.manifest.config, selected.num_parts
    retrieved = create(join(root, "retrieved"), RETRIEVED, config, parents, num_parts)
    kept = create(join(root, "images"), IMAGES, config, parents, num_parts) if images else None
    nearest = recipe.retrieve.selection == "random"
    stage = MapStage(
        "collect",
        ReadPart(selected),
        CollectPart(pairs, images, embeddings, queries, nearest, retrieved, kept),
        retries=recipe.cluster.part_retries,
    )
    map_parts(stage, sorted({*retrieved.pending(), *(kept.pending() if kept else [])}), num_parts)
    if kept:
        kept.seal()
    facts = embeddings.facts
    return retrieved.seal(RetrievedFacts(facts.backbone, facts.dim, selected.facts.summary))


class CollectPart(Work):
    def __init__(
        self,
        pairs: Artifact,
        images: Artifact | None,
        embeddings: Artifact,
        queries: Artifact,
        nearest: bool,
        retrieved: Draft[RetrievedFacts],
        kept: Draft[NoFacts] | None,
    ) -> None:
        self.nearest, self.queries = nearest, queries
        self.pairs, self.images, self.embeddings = pairs, images, embeddings
        self.retrieved, self.kept = retrieved, kept

    def setup(self) -> None:
        self.class_CD = class_vectors(self.queries)

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        pair_ids = table["pair_id"].to_numpy()
        pairs = gather(self.pairs, pair_ids)
        vectors = gather(self.embeddings, pair_ids, ["pair_id", "text"])
        rows = pairs
        if (
            self.nearest
        ):  # a random pair was asked for by no class: it counts for the one that its caption is nearest to
            class_id = (from_vectors(vectors["text"]).astype(np.float32) @ self.class_CD.T).argmax(axis=1)
            table = table.set_column(table.column_names.index("class_id"), "class_id", pa.array(class_id, pa.int32()))
        for name in ("class_id", "score", "matches"):
            rows = rows.append_column(name, table[name])
        rows = rows.append_column("text_embedding", vectors["text"])
        shape = schema.retrieved(self.embeddings.facts.dim, pairs.schema)
        facts = {}
        if self.images is not None and self.kept is not None:
            images = gather(self.images, pair_ids)
            facts["trainable"] = pc.sum(trainable(images, rows)).as_py() or 0
            self.kept.commit(part, images, time.monotonic() - began)
        return self.retrieved.commit(part, schema.conform(rows, shape), time.monotonic() - began, **facts)


def trainable(images: pa.Table, retrieved: pa.Table, needed: str = "text_embedding") -> pa.ChunkedArray:
    """True for rows that have both an image and what training needs: a caption's vector, or a caption, which is "" where there
    is none."""
    has = pc.is_valid(retrieved[needed])
    if needed == "caption":
        has = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(retrieved[needed]), ""), False)
    return pc.and_(pc.equal(images["status"], schema.OK), has)


def class_vectors(queries: Artifact) -> np.ndarray:
    """float32 [C, D], unit norm: the mean of each class's queries."""
    table = pa.concat_tables(queries.tables(["class_id", "embedding"]))
    sums_CD = np.zeros((queries.facts.num_classes, queries.facts.dim), np.float64)
    np.add.at(sums_CD, table["class_id"].to_numpy(), from_vectors(table["embedding"]).astype(np.float64))
    return (sums_CD / np.linalg.norm(sums_CD, axis=1, keepdims=True)).astype(np.float32)


def gather(artifact: Artifact, pair_ids: np.ndarray, columns: list[str] | None = None) -> pa.Table:
    """The rows at these addresses, in this order. Sorted ids read each part once."""
    parts, rows = part_of(pair_ids), row_of(pair_ids)
    tables = []
    for part in distinct(parts):
        table = artifact.read(int(part), columns)
        tables.append(table.take(pa.array(rows[parts == part])))
    joined = pa.concat_tables(tables)
    order = np.argsort(np.argsort(parts, kind="stable"), kind="stable")
    joined = joined.take(pa.array(order))
    assert np.array_equal(joined["pair_id"].to_numpy(), pair_ids), "rows are not where their ids say"
    return joined
