"""embed: `images/` -> `embeddings/`, unit float16 vectors of images and captions by the frozen CLIP.

Captions alone are read from `pairs/`. With `download.fused` the images of a list of URLs come from the web in the same
pipeline: URL -> fetch and shrink (processes of the role fetch) -> vectors (actors of the role embed); `download.keep_images`
says whether `images/` is made on the way. Published vectors are there already, by ingest. What came since is added: only new
parts are embedded. Next: embed_rows.py, clip/embed.py, then index.py.
"""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import torch

from react_ray.artifact import Artifact
from react_ray.clip.config import BackboneConfig, EmbedConfig
from react_ray.clip.embed import embed
from react_ray.clip.embedder import Embedder
from react_ray.clip.heads import load_heads
from react_ray.draft import Draft, create
from react_ray.gated.load import load_backbone
from react_ray.kinds import EMBEDDINGS, IMAGES, EmbeddingsFacts, NoFacts
from react_ray.manifest import Receipt, part_name
from react_ray.recipe import Recipe
from react_ray.runtime.device import worker_device
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, Step, Work, map_parts
from react_ray.runtime.placement import actor_pool, thread_pool
from react_ray.runtime.resources import require_memory
from react_ray.stages.downloading.download_part import Floor
from react_ray.stages.embedding.read_rows import FetchImages, Quarantine, ReadRows
from react_ray.storage import read_bytes

PARTS_PER_GPU = 2  # one part is decoded while the model has the other
FETCH_CPUS = 0.25  # of a process that fetches beside an actor that embeds: the two and a reading task fit on two cores


def run(recipe: Recipe, skip_corrupt: bool = False) -> Artifact:
    """skip_corrupt: a part that cannot be read gives rows of status `corrupt`, and the manifest names it."""
    layout = Layout(recipe)
    if layout.has_published_vectors():
        return layout.open_database(EMBEDDINGS, "ingest")
    rows = layout.open_embedded()
    backbone_config = embedding_backbone(recipe)
    backbone = load_backbone(backbone_config, seed=recipe.seed).describe()
    load_heads(recipe.embed.heads, backbone["dim"])
    embeddings = create(
        layout.database("embeddings"),
        EMBEDDINGS,
        _config(recipe, backbone),
        {rows.kind.name: rows},
        rows.num_parts,
        grows=True,
    )
    images = _images_on_the_way(recipe, rows)
    if not embeddings.sealed:
        _require_memory(recipe, rows)
        stage = MapStage(
            "embed",
            ReadRows(rows, recipe.fused),
            EmbedPart(backbone_config, recipe.embed, recipe.seed, recipe.cluster.threads_per_actor, embeddings),
            options=actor_pool(recipe.cluster, "embed", _parts_at_once(recipe)),
            steps=_steps(recipe, images),
            instead=Quarantine(rows) if skip_corrupt else None,
            retries=recipe.cluster.part_retries,
        )
        watch = Floor(recipe.download, embeddings.uri) if recipe.fused else None
        map_parts(stage, embeddings.pending(), rows.num_parts, watch)
    if images is not None:
        images.seal()
    return _seal(embeddings, backbone)


def embedding_backbone(recipe: Recipe) -> BackboneConfig:
    """The recipe's backbone with the precision of this stage."""
    precision = recipe.embed.precision
    if precision == "auto":
        precision = "bf16" if recipe.cluster.gpus_per_actor else recipe.backbone.precision
    return recipe.backbone.model_copy(update={"precision": precision})


def _config(recipe: Recipe, backbone: dict[str, Any]) -> dict[str, Any]:
    """What makes two vectors of one pair differ. Images that are kept nowhere are part of it."""
    config: dict[str, Any] = {"images": recipe.embed.images, "captions": recipe.embed.captions, "backbone": backbone}
    heads = recipe.embed.heads
    config["heads"] = {name: hashlib.sha256(read_bytes(uri)).hexdigest() for name, uri in heads.items()}
    return config | ({"download": recipe.download.digested()} if recipe.fused else {})


def _parts_at_once(recipe: Recipe) -> int:
    """Of each actor. Without a GPU there is nothing to keep busy, and two callers of torch's threads stand in each other's way."""
    return PARTS_PER_GPU if recipe.cluster.gpus_per_actor else 1


def _require_memory(recipe: Recipe, rows: Artifact) -> None:
    row_bytes = max(receipt.bytes / max(receipt.rows, 1) for receipt in rows.receipts())
    if recipe.fused:
        row_bytes += recipe.download.image_size**2 / 2  # a JPEG of quality 95 has less
    parts_gb = (1 + _parts_at_once(recipe)) * row_bytes * recipe.ingest.rows_per_part / 2**30
    require_memory(recipe.cluster, 1 + parts_gb, recipe.cluster.num_actors, "embed")


def _images_on_the_way(recipe: Recipe, pairs: Artifact) -> Draft[NoFacts] | None:
    """The same artifact as the download stage makes."""
    if not (recipe.fused and recipe.download.keep_images):
        return None
    uri = Layout(recipe).database("images")
    return create(uri, IMAGES, recipe.download.digested(), {"pairs": pairs}, pairs.num_parts, grows=True)


def _steps(recipe: Recipe, images: Draft[NoFacts] | None) -> tuple[Step, ...]:
    if not recipe.fused:
        return ()
    config = recipe.download
    options = thread_pool(recipe.cluster, "fetch", config.num_workers, config.parts_per_worker)
    return (Step(FetchImages(config, images), options | {"num_cpus": FETCH_CPUS}),)


def _seal(embeddings: Draft[EmbeddingsFacts], backbone: dict[str, Any]) -> Artifact[EmbeddingsFacts]:
    reasons = {receipt.part: receipt.facts.get("quarantined") for receipt in embeddings.receipts()}
    quarantined = {part_name(part): reason for part, reason in reasons.items() if reason}
    return embeddings.seal(EmbeddingsFacts(backbone, backbone["dim"], quarantined=quarantined))


class EmbedPart(Work):
    """Lives in an actor, called by several threads: the model is loaded once, parts flow through."""

    def __init__(
        self,
        backbone: BackboneConfig,
        config: EmbedConfig,
        seed: int,
        num_threads: int,
        embeddings: Draft[EmbeddingsFacts],
    ) -> None:
        self.backbone, self.config, self.seed, self.num_threads = backbone, config, seed, num_threads
        self.embeddings = embeddings

    def setup(self) -> None:
        torch.set_num_threads(self.num_threads)
        device, config = worker_device(), self.config
        loaded = load_backbone(self.backbone, device=device, seed=self.seed)
        self.embedder = Embedder(loaded, config.batch_size, device, config.compile)
        self.heads = load_heads(config.heads, loaded.dim)
        self.pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="decode")

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        facts = {"quarantined": table["error"][0].as_py()} if "error" in table.column_names else {}
        made = embed(table, self.embedder, self.config, self.heads, self.pool)
        return self.embeddings.commit(part, made, time.monotonic() - began, **facts)
