"""Tested: the images of a set that models are scored on, whatever the protocol, so that none of them trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import pyarrow as pa

from react_ray.clip.prompts import TargetTask
from react_ray.evals.box_set import open_boxes
from react_ray.evals.captioned import open_captioned
from react_ray.evals.config import EvaluateConfig
from react_ray.evals.mask_set import open_masks
from react_ray.evals.set_files import open_files
from react_ray.evals.task_of_set import task_of_set


class Tested(NamedTuple):
    field: str  # of the recipe, that names the set
    num_images: int
    images: Callable[[int, int], list[bytes | None]]  # (first, number) -> encoded, None where there is no image
    digest: str = ""  # of the whole set; "" = nobody asks for it


def classified_set(name: str, uri: str, digest: str = "") -> Tested:
    """A set of evaluate.datasets."""
    field = f"evaluate.datasets.{name}"
    files = open_files(uri, field, needs_labels=False)
    return Tested(field, files.num_rows, lambda *some: [cell.data for cell in files.images(*some)], digest)


def other_sets(config: EvaluateConfig, tasks: list[TargetTask]) -> Iterator[Tested]:
    """The sets of the other protocols, each opened when its turn comes."""
    for name, uri in config.captions.items():
        field = f"evaluate.captions.{name}"
        captioned = open_captioned(uri, field, config.max_unreadable)
        yield Tested(field, captioned.num_images, _images_of(captioned), captioned.digest)
    for name, uri in config.segmentation.items():
        field = f"evaluate.segmentation.{name}"
        masks = open_masks(uri, field, task_of_set(tasks, name, field))
        yield Tested(field, len(masks.masks), _images_of(masks), masks.digest)
    for name, uri in config.detection.items():
        field = f"evaluate.detection.{name}"
        boxes = open_boxes(uri, field, task_of_set(tasks, name, field))
        yield Tested(field, boxes.num_images, _images_of(boxes), boxes.digest())


class _Set(Protocol):
    def read(self, start: int, count: int) -> pa.Table: ...


def _images_of(one: _Set) -> Callable[[int, int], list[bytes | None]]:
    return lambda *some: one.read(*some)["image"].to_pylist()
