"""embed: `images/` -> `embeddings/`, the unit float16 vectors of images and captions by the frozen CLIP.

If only captions are embedded, they are read from `pairs/`. With `download.fused`, one pipeline fetches the images of
a URL list (processes with the role fetch) and embeds them (actors with the role embed); `download.keep_images` also
stores them as `images/`. Published vectors need no embedding: ingest has written them. If the input has grown, only
its new parts are embedded.
"""

from __future__ import annotations

import hashlib
from typing import Any

from react_ray.artifact import Artifact
from react_ray.clip.heads import load_heads
from react_ray.draft import Draft, create
from react_ray.gated.load import load_backbone
from react_ray.kinds import EMBEDDINGS, IMAGES, EmbeddingsFacts, NoFacts, PairsFacts
from react_ray.manifest import part_name
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, Step, map_parts
from react_ray.runtime.placement import actor_pool, thread_pool
from react_ray.runtime.resources import require_memory
from react_ray.stages.downloading.success_floor import SuccessFloor
from react_ray.stages.embedding.embed_part import EmbedPart, embedding_backbone
from react_ray.stages.embedding.read_rows import FetchImages, Quarantine, ReadRows
from react_ray.storage import read_bytes

PARTS_PER_GPU = 2  # one part is decoded while the model has the other
FETCH_CPUS = 0.25  # per fetching process, so that it, an embedding actor and a reading task fit on two cores


def run(recipe: Recipe, skip_corrupt: bool = False) -> Artifact:
    """Embeds all parts that are pending, and returns the sealed `embeddings`.

    skip_corrupt: a part that cannot be read gets rows with status `corrupt`, and the manifest names it.
    """
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
    images = _stored_images(recipe, rows)
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
        watch = SuccessFloor(recipe.download, embeddings.uri) if recipe.fused else None
        map_parts(stage, embeddings.pending(), rows.num_parts, watch)
    if images is not None:
        images.seal()
    return _seal(embeddings, backbone, recipe)


def _config(recipe: Recipe, backbone: dict[str, Any]) -> dict[str, Any]:
    """Returns whatever makes the vectors of a pair differ, including how images are fetched if they are not stored."""
    config: dict[str, Any] = {"images": recipe.embed.images, "captions": recipe.embed.captions, "backbone": backbone}
    heads = recipe.embed.heads
    config["heads"] = {name: hashlib.sha256(read_bytes(uri)).hexdigest() for name, uri in heads.items()}
    return config | ({"download": recipe.download.digested()} if recipe.fused else {})


def _parts_at_once(recipe: Recipe) -> int:
    """Returns the parts that each actor works on at a time.

    On a CPU, decoding and the model compete for the same cores, and two callers would contend for torch's threads.
    """
    return PARTS_PER_GPU if recipe.cluster.gpus_per_actor else 1


def _require_memory(recipe: Recipe, rows: Artifact) -> None:
    row_bytes = max(receipt.bytes / max(receipt.rows, 1) for receipt in rows.receipts())
    if recipe.fused:
        row_bytes += recipe.download.image_size**2 / 2  # a JPEG of quality 95 is smaller
    parts_gb = (1 + _parts_at_once(recipe)) * row_bytes * recipe.ingest.rows_per_part / 2**30
    require_memory(recipe.cluster, 1 + parts_gb, recipe.cluster.num_actors, "embed")


def _stored_images(recipe: Recipe, pairs: Artifact[PairsFacts]) -> Draft[NoFacts] | None:
    """Returns the draft for the fetched images, the same that `download` fills; None if they are not stored."""
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


def _seal(embeddings: Draft[EmbeddingsFacts], backbone: dict[str, Any], recipe: Recipe) -> Artifact[EmbeddingsFacts]:
    reasons = {receipt.part: receipt.facts.get("quarantined") for receipt in embeddings.receipts()}
    quarantined = {part_name(part): reason for part, reason in reasons.items() if reason}
    loaded_from = recipe.backbone.digested()
    return embeddings.seal(EmbeddingsFacts(backbone, backbone["dim"], quarantined=quarantined, loaded_from=loaded_from))
