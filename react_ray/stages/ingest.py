"""ingest: what people already have -> `pairs/` and, if it has them, `images/` of the database.

Of a list of URLs only `pairs/` is made; of published vectors `embeddings/` too. Files that were added to the source behind
those it had become more parts; where the source was cut is a fact of `pairs`, from its beginning on. Next: pairs/source.py,
then embed.py.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pyarrow as pa

from react_ray.artifact import Artifact, plan_of
from react_ray.clip.heads import load_heads
from react_ray.clip.identity import published
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch
from react_ray.kinds import EMBEDDINGS, IMAGES, PAIRS, EmbeddingsFacts, PairsFacts
from react_ray.manifest import Receipt
from react_ray.pair_id import pair_ids
from react_ray.pairs.published import to_vectors
from react_ray.pairs.source import IngestConfig, Source, open_source, to_images, to_pairs
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, Work, map_parts
from react_ray.runtime.placement import placement
from react_ray.runtime.resources import require_disk
from react_ray.storage import read_bytes
from react_ray.vectors import embeddings_table


def run(recipe: Recipe) -> Artifact:
    """Gives the sealed `images`, or `pairs` of a list of URLs; where there are both, they have the same parts and rows.

    Of published vectors `embeddings` is made as well.
    """
    layout = Layout(recipe)
    source, grows = _open(recipe.ingest, layout.database("pairs"))
    config = recipe.ingest.digested()
    num_parts = len(source.parts)
    known = PairsFacts({"ends": source.ends, "files": source.files_before(source.num_rows)})
    made: dict[str, Draft[Any]] = {
        "pairs": create(layout.database("pairs"), PAIRS, config, {}, num_parts, grows, known)
    }
    if source.has_images:
        made["images"] = create(layout.database("images"), IMAGES, config, {}, num_parts, grows)
    model: dict[str, Any] = {}
    if source.has_vectors:
        from react_ray.clip.architecture import embedding_dim  # torch, which no other source needs here

        model = published(recipe.backbone, embedding_dim(recipe.backbone.name))
        made["embeddings"] = _create_embeddings(recipe, model, num_parts, grows)
    pending = sorted({part for artifact in made.values() for part in artifact.pending()})
    if pending:
        require_disk(recipe.database, 1.2 * source.num_bytes * len(pending) / num_parts / 2**30, "ingest")
    stage = MapStage(
        "ingest",
        source.read,
        CommitPairs(recipe.ingest, made, recipe.embed.heads, model.get("dim", 0)),
        options=placement(recipe.cluster, "fetch"),
        retries=recipe.cluster.part_retries,
    )
    map_parts(stage, pending, num_parts)
    facts = {"embeddings": EmbeddingsFacts(model, model["dim"])} if model else {}
    sealed = {kind: draft.seal(facts.get(kind)) for kind, draft in made.items()}
    return sealed["images"] if "images" in sealed else sealed["pairs"]


def _open(config: IngestConfig, uri: str) -> tuple[Source, bool]:
    """The source, cut where it was cut when `pairs` was begun here, and whether that is known: only then may it grow.

    ArtifactMismatch if other rows are where those were: a pair's address is its place.
    """
    plan = plan_of(uri)
    before = plan.get("facts", {}).get("source") if plan.get("config") == config.digested() else None
    if before is None:
        return open_source(config), False
    source, end = open_source(config, tuple(before["ends"])), before["ends"][-1]
    if source.num_rows != end and source.files_before(end) != before["files"]:
        raise ArtifactMismatch(
            f"{uri} has the first {end} rows of {config.source}, which now has {source.num_rows} and no longer the same files, with as many rows, "
            "before all others; give new files names that sort behind the old ones, or ingest into another `database`"
        )
    return source, True


def _create_embeddings(recipe: Recipe, model: dict[str, Any], num_parts: int, grows: bool) -> Draft[EmbeddingsFacts]:
    heads = {name: hashlib.sha256(read_bytes(uri)).hexdigest() for name, uri in recipe.embed.heads.items()}
    config = {"published": recipe.ingest.digested(), "backbone": model, "heads": heads}
    return create(Layout(recipe).database("embeddings"), EMBEDDINGS, config, {}, num_parts, grows)


class CommitPairs(Work):
    def __init__(self, config: IngestConfig, made: dict[str, Draft[Any]], heads: dict[str, str], dim: int) -> None:
        self.config, self.made, self.head_uris, self.dim = config, made, heads, dim

    def setup(self) -> None:
        self.heads = load_heads(self.head_uris, self.dim) if self.dim else []

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        tables = {"pairs": to_pairs(table, part, self.config)}
        if "images" in self.made:
            tables["images"] = to_images(table, part, self.config)
        if "embeddings" in self.made:
            tables["embeddings"] = self._embeddings(part, table)
        receipts = [self.made[kind].commit(part, tables[kind], time.monotonic() - began) for kind in tables]
        return receipts[-1]

    def _embeddings(self, part: int, table: pa.Table) -> pa.Table:
        image_ND, text_ND, status_N = to_vectors(table, part, self.config, self.dim)
        scores = {head.name: head.scores({"image": image_ND, "text": text_ND}) for head in self.heads}
        return embeddings_table(pa.array(pair_ids(part, len(table))), image_ND, text_ND, status_N, scores)
