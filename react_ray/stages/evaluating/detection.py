"""Detection: classifies the boxes of images with a model, and counts its average precision.

Next: region_vectors.py, which makes a vector of each box; evals/detection.py, which classifies and counts.
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
from react_ray.clip.prompts import by_own_names, load_tasks
from react_ray.evals.box_set import BoxSet, open_boxes
from react_ray.evals.detection import (
    PER_IMAGE,
    PER_IMAGE_OF_LVIS,
    average_precision,
    detect,
    match,
)
from react_ray.evals.readable import check_share
from react_ray.evals.resampled_ap import ap_of_images
from react_ray.evals.score import DETECTION
from react_ray.evals.task_of_set import task_of_set
from react_ray.recipe import Recipe
from react_ray.stages.evaluating.protocol import Figure, Protocol
from react_ray.stages.evaluating.region_vectors import Regions, RegionVectors


def detection_sets(recipe: Recipe) -> list[Protocol]:
    """One for each of evaluate.detection."""
    tasks, found, made = load_tasks(recipe.tasks), recipe.evaluate, list[Protocol]()
    for name, uri in found.detection.items():
        whose = f"evaluate.detection.{name}"
        boxes = open_boxes(uri, whose, task_of_set(tasks, name, whose), found.proposals.get(name, ""))
        options = found.regions, found.dense_size, found.batch_size, found.max_unreadable
        made.append(Detection(name, whose, boxes, *options))
    return made


@dataclass(frozen=True)
class Detection(Protocol):
    name: ClassVar[str] = DETECTION
    dataset: str
    whose: str
    boxes: BoxSet
    regions: Regions
    size: int
    batch_size: int
    most_unreadable: float
    images_per_part: int = 64

    @property
    def num_images(self) -> int:
        return self.boxes.num_images

    @property
    def setting(self) -> str:
        return "proposals" if self.boxes.proposals else "true boxes"

    def config(self) -> dict[str, Any]:
        task = self.boxes.task
        told = [task.name, list(task.class_names), list(task.templates)]
        size = self.size if self.regions == "roi_align" else 0
        return {"images": self.boxes.digest(), "regions": self.regions, "size": size, "task": told}

    def read(self, part: int) -> pa.Table:
        return self.boxes.read(part * self.images_per_part, self.images_per_part)

    def prepare(
        self, backbone: Backbone, device: torch.device, num_threads: int
    ) -> tuple[RegionVectors, np.ndarray, float]:
        regions = RegionVectors(backbone, device, self.regions, self.size, self.batch_size, num_threads)
        text_CD = regions.embedder.zero_shot_classifier(by_own_names(self.boxes.task))
        model: Any = backbone.model
        return regions, text_CD, float(model.logit_scale.detach().exp())

    def outputs(self, table: pa.Table, prepared: tuple[RegionVectors, np.ndarray, float]) -> pa.Table:
        """Returns schema.DETECTED."""
        regions, text_CD, scale = prepared
        most = PER_IMAGE_OF_LVIS if self.boxes.is_lvis else PER_IMAGE
        category_of, rows = self.boxes.category_of, table.to_pylist()
        sizes = [(row["width"], row["height"]) for row in rows]
        boxes = [np.array(row["boxes"], np.float64).reshape(-1, 4) for row in rows]
        files, images = (table[name].to_pylist() for name in ("file", "image"))
        made = []
        for row, box_N4, region_ND in zip(rows, boxes, regions.of(files, images, sizes, boxes), strict=True):
            detections: list[dict[str, Any]] = []
            if region_ND is not None and len(box_N4):
                objectness_N = np.array(row["objectness"]) if self.boxes.proposals else None
                found = detect(box_N4, region_ND, text_CD, scale, most, objectness_N)
                detections = [
                    {"category_id": category_of[position], "bbox": box.tolist(), "score": float(score)}
                    for box, position, score in zip(*found, strict=True)
                    if position in category_of
                ]
            status = schema.UNDECODABLE if region_ND is None else schema.OK
            made.append({"image_id": row["image_id"], "status": status, "detections": detections})
        return pa.Table.from_pylist(made, schema=schema.DETECTED)

    def figures(self, parts: Iterator[pa.Table]) -> list[Figure]:
        rows = [row for part in parts for row in part.to_pylist()]
        failed = sum(row["status"] != schema.OK for row in rows)
        check_share(failed, len(rows), self.whose, self.most_unreadable)
        found = [one | {"image_id": row["image_id"]} for row in rows for one in row["detections"]]
        num_boxes = sum(not box["iscrowd"] for box in self.boxes.truth["annotations"])
        matched = match(self.boxes.truth, found, self.boxes.is_lvis)
        of_images = ap_of_images(matched)
        task = self.boxes.task.name
        return [
            Figure(task, metric, value, num_boxes, of_images.get(metric))
            for metric, value in average_precision(matched)
        ]
