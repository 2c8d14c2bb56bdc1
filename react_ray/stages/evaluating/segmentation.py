"""Segmentation: labels the pixels of images with a model in the way of MaskCLIP, and counts them by class.

Next: clip/dense_features.py, which makes the vectors; evals/segmentation.py, which labels and counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch

from react_ray import schema
from react_ray.clip.backbone import Backbone
from react_ray.clip.dense_maps import DenseMaps
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask, by_own_names, load_tasks
from react_ray.errors import ConfigError
from react_ray.evals import resampled
from react_ray.evals.mask_set import MaskSet, open_masks
from react_ray.evals.readable import check_share
from react_ray.evals.resampled import OfImages
from react_ray.evals.score import SEGMENTATION
from react_ray.evals.segmentation import Counts, count, mean_iou, segment
from react_ray.evals.task_of_set import task_of_set
from react_ray.recipe import Recipe
from react_ray.stages.evaluating.protocol import Figure, Protocol


def segmentation_sets(recipe: Recipe) -> list[Protocol]:
    """One for each of evaluate.segmentation."""
    tasks, found = load_tasks(recipe.tasks), recipe.evaluate
    made: list[Protocol] = []
    for name, uri in found.segmentation.items():
        whose = f"evaluate.segmentation.{name}"
        task = task_of_set(tasks, name, whose)
        masks = open_masks(uri, whose, task)
        made.append(Segmentation(name, whose, masks, task, found.dense_size, found.max_unreadable))
    return made


@dataclass(frozen=True)
class Segmentation(Protocol):
    name: ClassVar[str] = SEGMENTATION
    dataset: str
    whose: str
    masks: MaskSet
    task: TargetTask
    size: int
    most_unreadable: float
    images_per_part: int = 64

    @property
    def num_images(self) -> int:
        return len(self.masks.masks)

    def config(self) -> dict[str, Any]:
        task = [self.task.name, list(self.task.class_names), list(self.task.templates)]
        return {"images": self.masks.digest, "size": self.size, "task": task}

    def read(self, part: int) -> pa.Table:
        return self.masks.read(part * self.images_per_part, self.images_per_part)

    def prepare(self, backbone: Backbone, device: torch.device, num_threads: int) -> tuple[DenseMaps, torch.Tensor]:
        text_CD = Embedder(backbone, 256, device).zero_shot_classifier(by_own_names(self.task))
        return DenseMaps(backbone, device, self.size, num_threads), torch.from_numpy(text_CD)

    def outputs(self, table: pa.Table, prepared: tuple[DenseMaps, torch.Tensor]) -> pa.Table:
        """Returns schema.SEGMENTED."""
        maps, text_CD = prepared
        columns = [table[name].to_pylist() for name in ("file", "mask", "image")]
        rows = []
        for file, mask, image, map_Dhw in zip(*columns, maps.of(columns[2]), strict=True):
            label_HW = self.masks.labels(file, mask, image)
            predicted_HW = None if map_Dhw is None else segment(map_Dhw, text_CD, *label_HW.shape)
            found = count(label_HW, predicted_HW, len(text_CD))
            status = schema.OK if map_Dhw is not None else schema.UNDECODABLE
            rows.append({"file": file, "status": status} | {k: v.tolist() for k, v in found._asdict().items()})
        return pa.Table.from_pylist(rows, schema=schema.SEGMENTED)

    def figures(self, parts: Iterator[pa.Table]) -> list[Figure]:
        table = pa.concat_tables(parts)
        failed = sum(status != schema.OK for status in table["status"].to_pylist())
        check_share(failed, table.num_rows, self.whose, self.most_unreadable)
        counts = Counts(*(np.array(table[name].to_pylist()) for name in Counts._fields))  # of images, then of classes
        if not counts.labelled.any():
            raise ConfigError(
                f"{self.whose}: no pixel of any mask is of a class of task {self.task.name}; name other "
                "masks, or write what their numbers mean into a classes.txt"
            )
        metrics = {
            "miou": OfImages(resampled.mean_iou(*counts), np.stack(counts, axis=1)),
            "pixel_accuracy": OfImages(resampled.share(*(n.sum(axis=1) for n in counts[:2])), counts.right.sum(axis=1)),
        }
        values = mean_iou(Counts(*(of_images.sum(axis=0) for of_images in counts)))
        return [
            Figure(self.task.name, metric, value, table.num_rows, of_images)
            for (metric, of_images), value in zip(metrics.items(), values, strict=True)
        ]
