"""The pictures that the 1-nearest-neighbour rows of the table compare with: retrieved pairs, or labelled drawings.

A retrieved picture has the class that it was retrieved for, so that its row uses no labels, as the models do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.prompts import TargetTask
from react_ray.evals.drawing_labels import labelled_drawings
from react_ray.evals.pixels import DIM, Neighbours, shrink
from react_ray.kinds import IMAGES, QUERIES, RETRIEVED
from react_ray.manifest import MANIFEST
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime.layout import PIXELS, PIXELS_LABELLED, Layout
from react_ray.stages.retrieval.embed_queries import queries_uri
from react_ray.storage import join, open_storage


@dataclass(frozen=True)
class RetrievedPixels:
    """Pictures of retrieved pairs: all, or `most` of them from whole parts that are evenly spread."""

    retrieved: Artifact[Any]
    images: Artifact[Any]
    queries: Artifact[Any]
    most: int

    @property
    def parents(self) -> dict[str, Artifact[Any]]:
        return {"retrieved": self.retrieved, "images": self.images, "queries": self.queries}

    @property
    def config(self) -> dict[str, Any]:
        return {"most": min(self.most, self.retrieved.rows)}

    def load(self, tasks: list[TargetTask], num_threads: int) -> Neighbours:
        class_of = _classes(self.queries)
        num_parts, num_rows = self.retrieved.num_parts, max(1, self.retrieved.rows)
        num_read = min(num_parts, max(1, self.most * num_parts // num_rows))
        pictures, labels = [np.empty((0, DIM), np.uint8)], []
        left = self.most
        for part in np.linspace(0, num_parts - 1, num_read).astype(int).tolist():
            class_ids = self.retrieved.read(part, ["class_id"])["class_id"].to_pylist()
            rows = np.array([row for row, class_id in enumerate(class_ids) if class_id in class_of], int)
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(left, len(rows))).astype(int))]
            left -= len(rows)
            images = self.images.read(part, ["image"])["image"].take(pa.array(rows)).to_pylist()
            small_ND, good_N = shrink(images, num_threads)
            pictures.append(small_ND[good_N])
            labels += [class_of[class_ids[row]] for row in rows[good_N]]
        return Neighbours(np.concatenate(pictures), labels)


@dataclass(frozen=True)
class LabelledPixels:
    """Pictures of the sample whose names say what they show."""

    folder: str

    @property
    def parents(self) -> dict[str, Artifact[Any]]:
        return {}

    @property
    def config(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def load(self, tasks: list[TargetTask], num_threads: int) -> Neighbours:
        return labelled_drawings(self.folder, tasks, num_threads)


Pixels = RetrievedPixels | LabelledPixels


def pixel_references(recipe: Recipe) -> dict[str, Pixels]:
    """Returns the rows of the table that compare pixels, by name, as far as there are pictures to compare with."""
    found: dict[str, Pixels] = {}
    if recipe.evaluate.pixel_pairs and (of_retrieved := _retrieved(recipe)):
        found[PIXELS] = of_retrieved
    if recipe.evaluate.pixel_knn:
        found[PIXELS_LABELLED] = LabelledPixels(recipe.evaluate.pixel_knn)
    return found


def _retrieved(recipe: Recipe) -> RetrievedPixels | None:
    """The pairs that most arms train on: those of the run, or of the first arm that retrieves otherwise."""
    arms = [arm for arm in recipe.arm_names() if recipe.arm(arm).retrieve.selection == "hits"]
    for arm in sorted(arms, key=lambda arm: not recipe.shares_retrieval(arm)):
        root = Layout(recipe, arm).retrieved_root()
        if not open_storage(join(root, "retrieved")).exists(MANIFEST):
            continue
        if not open_storage(join(root, "images")).exists(MANIFEST):
            say("evaluate: no row of 1-NN on pixels, because the images of the retrieved pairs are not stored")
            return None
        return RetrievedPixels(
            open_artifact(join(root, "retrieved"), RETRIEVED),
            open_artifact(join(root, "images"), IMAGES),
            open_artifact(queries_uri(recipe, arm), QUERIES),
            recipe.evaluate.pixel_pairs,
        )
    return None


def _classes(queries: Artifact[Any]) -> dict[int, tuple[str, str]]:
    """class_id -> (task, class name)."""
    found = {}
    for table in queries.tables(["class_id", "task", "class_name"]):
        for class_id, task, name in zip(*(column.to_pylist() for column in table.columns), strict=True):
            found[class_id] = (task, name)
    return found
