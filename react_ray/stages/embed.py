"""embed: `images/` -> `embeddings/`, unit float16 vectors of images and captions by the frozen CLIP.

Where images are downloaded only once they are retrieved, it is `pairs/` -> vectors of captions alone. A row without an image keeps its place with a null vector. Next: clip/embedder.py, then index.py.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import torch

from react_ray import schema
from react_ray.artifact import Artifact, Receipt, create
from react_ray.clip.backbone import load_backbone
from react_ray.clip.config import BackboneConfig, EmbedConfig
from react_ray.clip.embedder import Embedder
from react_ray.pairs.image import decode_batch
from react_ray.recipe import Recipe
from react_ray.stages.cluster import actor_pool, require_memory
from react_ray.stages.layout import Layout
from react_ray.stages.run_parts import Work, run_parts
from react_ray.vectors import as_vectors


def run(recipe: Recipe) -> Artifact:
    layout = Layout(recipe)
    rows = layout.open_embedded()
    backbone = load_backbone(recipe.backbone, seed=recipe.seed).describe()
    config = {"backbone": backbone, **recipe.embed.digested()}
    embeddings = create(layout.database("embeddings"), "embeddings", config, {rows.kind: rows}, rows.num_parts)
    if embeddings.sealed:
        return embeddings
    largest = max(receipt.bytes / max(receipt.rows, 1) for receipt in rows.receipts()) * recipe.ingest.rows_per_part
    require_memory(recipe.cluster, 1 + 2 * largest / 2**30, recipe.cluster.num_actors, "embed")
    run_parts(
        "embed",
        embeddings.pending(),
        rows.num_parts,
        _Read(rows),
        EmbedPart,
        (recipe.backbone, recipe.embed, recipe.seed, recipe.cluster.threads_per_actor, embeddings),
        recipe.cluster.part_retries,
        "pairs",
        options=actor_pool(recipe.cluster, "embed"),
    )
    return embeddings.seal(backbone=backbone, dim=backbone["dim"])


class _Read:
    def __init__(self, rows: Artifact) -> None:
        self.rows = rows

    def __call__(self, part: int) -> pa.Table:
        if self.rows.kind == "images":
            return self.rows.read(part, ["pair_id", "caption", "image", "status"])
        table = self.rows.read(part, ["pair_id", "caption"])
        table = table.append_column("image", pa.nulls(len(table), pa.binary()))
        return table.append_column("status", pa.array([schema.OK] * len(table)))


class EmbedPart(Work):
    """Lives in an actor: the model is loaded once, parts flow through."""

    def __init__(
        self, backbone: BackboneConfig, config: EmbedConfig, seed: int, num_threads: int, embeddings: Artifact
    ) -> None:
        torch.set_num_threads(num_threads)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.backbone = load_backbone(backbone, device=self.device, seed=seed)
        self.embedder = Embedder(self.backbone, config.batch_size, self.device)
        self.config, self.num_threads, self.embeddings = config, num_threads, embeddings

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        status = np.array(table["status"].to_pylist(), dtype=object)
        image_ND = np.full((table.num_rows, self.backbone.dim), np.nan, np.float16)
        text_ND = image_ND.copy()
        if self.config.images:
            rows = np.flatnonzero(status == schema.OK)
            encoded = table["image"].take(pa.array(rows)).to_pylist()
            pixels, problems = decode_batch(encoded, self.backbone.image_size, self.num_threads)
            good = np.array([problem is None for problem in problems], bool)
            image_ND[rows[good]] = self.embedder.embed_images(pixels[good])
            status[rows[~good]] = schema.UNDECODABLE
            status[rows[good & ~np.isfinite(image_ND[rows]).all(axis=1)]] = schema.NOT_FINITE
        if self.config.captions:
            captions = table["caption"].to_pylist()
            rows = np.array([i for i, caption in enumerate(captions) if caption], int)
            if len(rows):
                text_ND[rows] = self.embedder.embed_texts([captions[i] for i in rows])
        out = pa.table(
            {
                "pair_id": table["pair_id"],
                "image": as_vectors(image_ND),
                "text": as_vectors(text_ND),
                "status": pa.array(status, pa.string()),
            }
        )
        return self.embeddings.commit(
            part, schema.conform(out, schema.embeddings(self.backbone.dim)), time.monotonic() - began
        )
