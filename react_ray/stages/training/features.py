"""Embeds the retrieved images with the customised models, for the heads that are trained on these vectors.

`features/` of an arm has a part for each part of the retrieved pairs, and one more: the class prompts in the space of
the model, at which the head starts. One pool of actors serves all arms: to start a process costs more than to embed a
small set. Next: second_stage.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask
from react_ray.clip.weights import weights_bytes
from react_ray.draft import Draft
from react_ray.gated.augment_config import AugmentConfig
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.load import load_backbone
from react_ray.kinds import NoFacts
from react_ray.manifest import Receipt
from react_ray.runtime.device import worker_device
from react_ray.runtime.work import Work
from react_ray.selection.soft_classes import soft_classes
from react_ray.training.augment import augment_rows, draw, num_views
from react_ray.training.auto_augment import AutoAugment
from react_ray.training.step import mix
from react_ray.vectors import as_vectors

PROMPTS_FILE = "prompts.safetensors"
IMAGES_AT_ONCE = 1024


@dataclass(frozen=True)
class Embedded:
    """What one arm's features are made of."""

    name: str
    backbone: BackboneConfig  # the customised model
    config: CustomizeConfig
    tasks: tuple[TargetTask, ...]
    retrieved: Artifact
    images: Artifact
    features: Draft[NoFacts]

    @property
    def prompts_part(self) -> int:
        return self.features.num_parts - 1


class ReadRetrieved:
    """Reads the images and classes of a job, (arm, part)."""

    def __init__(self, jobs: list[tuple[Embedded, int]]) -> None:
        self.jobs = jobs

    def __call__(self, job: int) -> pa.Table:
        arm, part = self.jobs[job]
        if part == arm.prompts_part:
            return pa.table({"pair_id": pa.array([], pa.int64())})
        images = arm.images.read(part, ["pair_id", "image", "status"])
        rows = arm.retrieved.read(part, ["class_id", "matches"])
        table = images.append_column("class_id", rows["class_id"])
        table = table.append_column("matched", soft_classes(rows["class_id"], rows["matches"]))
        return table.filter(pc.and_(pc.equal(table["status"], schema.OK), pc.is_valid(table["class_id"])))


class EmbedViews(Work):
    """Embeds one part at a time, and keeps the model of the last one."""

    def __init__(self, jobs: list[tuple[Embedded, int]], seed: int, batch_size: int, num_threads: int) -> None:
        self.jobs, self.seed, self.batch_size, self.num_threads = jobs, seed, batch_size, num_threads

    def setup(self) -> None:
        torch.set_num_threads(self.num_threads)
        self.device = worker_device()
        self.loaded: str | None = None  # "" is the name of a recipe's only arm

    def __call__(self, job: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        arm, part = self.jobs[job]
        if self.loaded != arm.name:
            backbone = load_backbone(arm.backbone, self.device, self.seed)
            self.embedder = Embedder(backbone, self.batch_size, self.device, grid=arm.config.head_grid)
            self.loaded = arm.name
        if part == arm.prompts_part:
            class_CD = np.concatenate([self.embedder.zero_shot_classifier(task) for task in arm.tasks])
            files = {PROMPTS_FILE: weights_bytes({"prompts": torch.from_numpy(class_CD)}, {})}
            return arm.features.commit_files(part, files, time.monotonic() - began, len(class_CD))
        shape = schema.features(self.embedder.image_dim)
        pieces = [shape.empty_table()]
        for start in range(0, table.num_rows, IMAGES_AT_ONCE):
            pieces += self._views(arm.config, mix(self.seed, part, start), table.slice(start, IMAGES_AT_ONCE))
        made = schema.conform(pa.concat_tables(pieces), shape)
        unused = table.num_rows - pc.sum(pc.equal(made["view"], 0), min_count=0).as_py()
        return arm.features.commit(part, made, time.monotonic() - began, unused=unused)

    def _views(self, config: CustomizeConfig, seed: int, table: pa.Table) -> Iterator[pa.Table]:
        """The rows of each view; an image that cannot be decoded, or embedded, has none, and the receipt counts it."""
        pixels, problems = self.embedder.decode(table["image"].to_pylist(), self.num_threads)
        readable = np.array([problem is None for problem in problems], bool)
        table, pixels = table.filter(pa.array(readable)), pixels[readable]
        for view in range(1 + num_views(config)):
            seen = self._augmented(config.augment, mix(seed, view), table, pixels) if view else pixels
            image_ND = self.embedder.embed_images(seen)
            finite_N = np.isfinite(image_ND).all(axis=1)
            rows = table.select(["pair_id", "class_id", "matched"]).filter(pa.array(finite_N))
            rows = rows.append_column("view", pa.array(np.full(rows.num_rows, view, np.int32)))
            yield rows.append_column("image", as_vectors(image_ND[finite_N]))

    def _augmented(self, config: AugmentConfig, seed: int, table: pa.Table, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, 3, S, S], augmented as in training."""
        backbone = self.embedder.backbone
        if config.auto:
            auto = AutoAugment(config, backbone.image_size, backbone.mean, backbone.std)
            images = enumerate(table["image"].to_pylist())
            return np.stack([auto(image, mix(seed, row) % 2**31) for row, image in images]) if len(pixels) else pixels
        draw_NK = draw(len(pixels), torch.Generator().manual_seed(seed))
        seen = augment_rows(torch.from_numpy(pixels), draw_NK, config)
        return seen.round().clamp(0, 255).to(torch.uint8).numpy()
