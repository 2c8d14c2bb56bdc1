"""Hashes and embeds the images of evaluation sets into `references/`, so that nothing near to them is retrieved."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import torch

from react_ray.artifact import Artifact
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.draft import Draft, create
from react_ray.evals.labelled import ReadRowGroups, row_groups
from react_ray.gated.load import load_backbone
from react_ray.kinds import REFERENCES, NoFacts
from react_ray.manifest import Receipt
from react_ray.pairs.image import inspect
from react_ray.recipe import ClusterConfig
from react_ray.runtime.device import worker_device
from react_ray.runtime.map_parts import MapStage, Work, map_parts
from react_ray.runtime.placement import actor_pool
from react_ray.vectors import as_vectors

IMAGES_AT_ONCE = 1024  # decoded at a time: 150 MB at 224 px


def eval_images(
    uri: str, sources: list[str], backbone: BackboneConfig, compares_vectors: bool, batch_size: int, seed: int,
    cluster: ClusterConfig,
) -> Artifact[NoFacts]:  # fmt: skip
    """Returns the sealed `references`. ConfigError for a set that is missing or has no images.

    sources: URIs of Parquet files with a column `image`. compares_vectors: whether the images are embedded too.
    """
    groups = [group for source in sources for group in row_groups(source)]
    described = load_backbone(backbone, seed=seed).describe()
    config = {"sets": [[g.source, g.number] for g in groups], "vectors": compares_vectors, "backbone": described}
    references = create(uri, REFERENCES, config, {}, len(groups))
    embedded_by = backbone if compares_vectors else None
    stage = MapStage(
        "references",
        ReadRowGroups(groups),
        ReferencePart(embedded_by, batch_size, seed, cluster.threads_per_actor, references),
        noun="images",
        options=actor_pool(cluster, "embed"),
        retries=cluster.part_retries,
    )
    map_parts(stage, references.pending(), len(groups))
    return references.seal()


class ReferencePart(Work):
    """Lives in an actor, which loads the model once if vectors are compared."""

    def __init__(
        self,
        backbone: BackboneConfig | None,
        batch_size: int,
        seed: int,
        num_threads: int,
        references: Draft[NoFacts],
    ) -> None:
        self.backbone, self.batch_size, self.seed = backbone, batch_size, seed
        self.num_threads, self.references = num_threads, references

    def setup(self) -> None:
        torch.set_num_threads(self.num_threads)
        device = worker_device()
        self.embedder: Embedder | None = None
        if self.backbone is not None:
            loaded = load_backbone(self.backbone, device=device, seed=self.seed)
            self.embedder = Embedder(loaded, self.batch_size, device)

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        images = table["image"].to_pylist() if table.num_rows else []
        hashes = [inspect(image).phash for image in images]
        dim = self.embedder.backbone.dim if self.embedder else 1
        image_ND = np.full((len(images), dim), np.nan, np.float16)
        if self.embedder:
            for start in range(0, len(images), IMAGES_AT_ONCE):
                block = images[start : start + IMAGES_AT_ONCE]
                pixels, problems = self.embedder.decode(block, self.num_threads)
                good = np.flatnonzero([problem is None for problem in problems])
                image_ND[start + good] = self.embedder.embed_images(pixels[good])
        out = pa.table({"phash": pa.array(hashes, pa.uint64()), "image": as_vectors(image_ND)})
        return self.references.commit(part, out, time.monotonic() - began)
