"""ClassifySlice: the actor that classifies slices of labelled images with one model after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask
from react_ray.draft import Draft
from react_ray.evals.classify import classify_rows
from react_ray.evals.labelled import Slice
from react_ray.gated.load import load_backbone
from react_ray.gated.wise_ft import interpolate
from react_ray.kinds import PredictionsFacts
from react_ray.manifest import Receipt
from react_ray.recipe import Recipe
from react_ray.runtime.device import worker_device
from react_ray.runtime.map_parts import Work
from react_ray.stages.evaluating.pixel_references import Pixels
from react_ray.storage import local_file
from react_ray.training.linear_head import load_head


@dataclass(frozen=True)
class Candidate:
    """A model to evaluate, and the draft for its predictions."""

    name: str
    backbone: BackboneConfig
    scores: Draft[PredictionsFacts]
    slices: dict[int, Slice]  # of the parts that may be pending, by their number
    head: str = ""  # URI of a linear head that replaces the prompts
    pixels: Pixels | None = None  # small pictures to compare with; there is no model then


class ClassifySlice(Work):
    """Classifies one slice at a time, and keeps the model of the last slice.

    jobs: (model, part of its predictions), by the number of the job.
    """

    def __init__(self, jobs: list[tuple[Candidate, int]], recipe: Recipe, tasks: list[TargetTask]) -> None:
        self.jobs, self.recipe, self.tasks = jobs, recipe, tasks

    def setup(self) -> None:
        torch.set_num_threads(self.recipe.cluster.threads_per_actor)
        self.device = worker_device()
        self.loaded: str | None = None  # "" is the name of a recipe's only arm

    def __call__(self, job: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        candidate, part = self.jobs[job]
        if self.loaded != candidate.name:
            self._load(candidate)
        num_threads = self.recipe.cluster.threads_per_actor
        if candidate.pixels:
            found = self.neighbours.classify_rows(table, self.tasks, num_threads)
            return candidate.scores.commit(part, found, time.monotonic() - began, fitted=self.fitted)
        found = classify_rows(table, self.embedder, self.classifiers, self.tasks, num_threads)
        return candidate.scores.commit(part, found, time.monotonic() - began)

    def _load_pixels(self, candidate: Candidate) -> None:
        assert candidate.pixels
        began = time.monotonic()
        self.neighbours = candidate.pixels.load(self.tasks, self.recipe.cluster.threads_per_actor)
        self.fitted = {
            "seconds": round(time.monotonic() - began, 3),
            "bytes": self.neighbours.num_bytes,
            "num_pairs": self.neighbours.num_pictures,
        }
        self.loaded = candidate.name

    def _load(self, candidate: Candidate) -> None:
        if candidate.pixels:
            self._load_pixels(candidate)
            return
        wise_ft = self.recipe.evaluate.wise_ft
        backbone = load_backbone(candidate.backbone, device=self.device, seed=self.recipe.seed)
        if candidate.backbone.gated and wise_ft != 1:
            base = load_backbone(candidate.backbone.model_copy(update={"gated": ""}), seed=self.recipe.seed)
            interpolate(base.model, backbone.model, wise_ft)
        self.embedder = Embedder(backbone, self.recipe.evaluate.batch_size, self.device)
        if candidate.head:
            head_CD, _ = load_head(local_file(candidate.head), wise_ft)
            ends = np.cumsum([len(task.class_names) for task in self.tasks])
            parts = np.split(head_CD[: ends[-1]], ends[:-1])  # the rows after these belong to free queries
            self.classifiers = {task.name: part for task, part in zip(self.tasks, parts, strict=True)}
        else:
            self.classifiers = {task.name: self.embedder.zero_shot_classifier(task) for task in self.tasks}
        self.loaded = candidate.name
