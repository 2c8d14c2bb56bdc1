"""ingest: any source -> `pairs/` and, if the source has images, `images/` of the database.

A URL list gives `pairs/` alone; published vectors also give `embeddings/`. Files that were added to the source since
the last run become further parts. `pairs` records where the source was cut into parts, from its first run on.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact, plan_of
from react_ray.clip.heads import load_heads
from react_ray.clip.identity import published
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch
from react_ray.kinds import EMBEDDINGS, IMAGES, PAIRS, EmbeddingsFacts, PairsFacts
from react_ray.manifest import Receipt
from react_ray.pair_id import pair_ids
from react_ray.pairs.columns import find_columns
from react_ray.pairs.published import to_vectors
from react_ray.pairs.source import IngestConfig, Source, caption_statuses, open_source, to_images, to_pairs
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, RowWork, map_parts
from react_ray.runtime.placement import placement
from react_ray.runtime.resources import require_disk
from react_ray.storage import read_bytes
from react_ray.vectors import embeddings_table


def run(recipe: Recipe) -> Artifact:
    """Returns the sealed `images`, or the sealed `pairs` if the source has no images.

    All artifacts of one source have the same parts and rows.
    """
    source, grows = _open(recipe.ingest, Layout(recipe).database("pairs"))
    model = _published_model(recipe, source)
    drafts = _create(recipe, source, model, grows)
    num_parts = len(source.parts)
    for line in source.summary():
        say(f"ingest     {line}")
    pending = sorted({part for draft in drafts.values() for part in draft.pending()})
    if pending:
        require_disk(recipe.database, 1.2 * source.num_bytes * len(pending) / num_parts / 2**30, "ingest")
    stage = MapStage(
        "ingest",
        source.read,
        CommitPairs(recipe.ingest, drafts, recipe.embed.heads, model.get("dim", 0)),
        options=placement(recipe.cluster, "fetch"),
        retries=recipe.cluster.part_retries,
    )
    map_parts(stage, pending, num_parts)
    loaded_from = recipe.backbone.digested()
    facts = {"embeddings": EmbeddingsFacts(model, model["dim"], loaded_from=loaded_from)} if model else {}
    sealed = {kind: draft.seal(facts.get(kind)) for kind, draft in drafts.items()}
    for kind, artifact in sealed.items():
        if others := {status: count for status, count in artifact.manifest.statuses.items() if status != schema.OK}:
            say(f"ingest     {kind}: {', '.join(f'{count:,} {status}' for status, count in sorted(others.items()))}")
            if schema.REPLACED in others:
                say("ingest     captions have U+FFFD; if their encoding is another, set ingest.encoding (cp1252, ...)")
    return sealed["images"] if source.has_images else sealed["pairs"]


def _open(config: IngestConfig, uri: str) -> tuple[Source, bool]:
    """Opens the source, cut where it was cut for the `pairs` at `uri`, and returns whether it was; only then may it
    grow.

    Raises ArtifactMismatch if the rows of `pairs` are no longer the first rows of the source, since the address of a
    pair is its place in the source.
    """
    plan = plan_of(uri)
    before = plan.get("facts", {}).get("source") if plan.get("config") == config.digested() else None
    if before is None:
        return open_source(config), False
    source, end = open_source(config, tuple(before["ends"])), before["ends"][-1]
    if source.num_rows != end and source.files_before(end) != before["files"]:
        raise ArtifactMismatch(
            f"{uri} has the first {end} rows of {config.source}, which now has {source.num_rows} and no longer the "
            "same files, with as many rows, before all others; give new files names that sort behind the old ones, or "
            "ingest into another `database`"
        )
    return source, True


def _published_model(recipe: Recipe, source: Source) -> dict[str, Any]:
    """Describes the model of published vectors, which is the recipe's backbone; empty for other sources."""
    if not source.has_vectors:
        return {}
    from react_ray.clip.architecture import embedding_dim  # torch, which no other source needs here

    return published(recipe.backbone, embedding_dim(recipe.backbone))


def _create(recipe: Recipe, source: Source, model: dict[str, Any], grows: bool) -> dict[str, Draft[Any]]:
    """Begins or resumes the artifacts of this source, by kind."""
    layout, config, num_parts = Layout(recipe), recipe.ingest.digested(), len(source.parts)
    cut = PairsFacts({"ends": source.ends, "files": source.files_before(source.num_rows)}, source.summary())
    drafts: dict[str, Draft[Any]] = {
        "pairs": create(layout.database("pairs"), PAIRS, config, {}, num_parts, grows, cut)
    }
    if source.has_images:
        drafts["images"] = create(layout.database("images"), IMAGES, config, {}, num_parts, grows)
    if source.has_vectors:
        heads = {name: hashlib.sha256(read_bytes(uri)).hexdigest() for name, uri in recipe.embed.heads.items()}
        config = {"published": config, "backbone": model, "heads": heads}
        drafts["embeddings"] = create(layout.database("embeddings"), EMBEDDINGS, config, {}, num_parts, grows)
    return drafts


class CommitPairs(RowWork):
    """Commits one part to all artifacts of the source. heads, dim: of published vectors; dim = 0 if there are none."""

    def __init__(self, config: IngestConfig, drafts: dict[str, Draft[Any]], heads: dict[str, str], dim: int) -> None:
        self.config, self.drafts, self.head_uris, self.dim = config, drafts, heads, dim

    def setup(self) -> None:
        self.heads = load_heads(self.head_uris, self.dim) if self.dim else []

    def payload(self, table: pa.Table) -> list[str]:
        image = find_columns(table.schema, self.config).image
        return [image] if image else []

    def make(self, part: int, table: pa.Table) -> dict[str, pa.Table]:
        tables = {"pairs": to_pairs(table, part, self.config)}
        if "images" in self.drafts:
            tables["images"] = to_images(table, part, self.config)
        if "embeddings" in self.drafts:
            tables["embeddings"] = self._embeddings(part, table)
        return tables

    def commit(self, part: int, table: pa.Table, made: dict[str, pa.Table], seconds: float) -> Receipt:
        counts = {"pairs": caption_statuses(made["pairs"]["caption"])}
        return [self.drafts[kind].commit(part, made[kind], seconds, counts.get(kind)) for kind in made][-1]

    def _embeddings(self, part: int, table: pa.Table) -> pa.Table:
        image_ND, text_ND, status_N = to_vectors(table, part, self.config, self.dim)
        scores = {head.name: head.scores({"image": image_ND, "text": text_ND}) for head in self.heads}
        return embeddings_table(pa.array(pair_ids(part, len(table))), image_ND, text_ND, status_N, scores)
