"""ClassifySlice: the actor that classifies slices of labelled images with one model after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow as pa
import torch

from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask
from react_ray.draft import Draft
from react_ray.evals.classify import classify_rows, prompt_scorers
from react_ray.evals.labelled import Slice
from react_ray.gated.load import load_backbone
from react_ray.gated.wise_ft import interpolate
from react_ray.kinds import PredictionsFacts
from react_ray.manifest import Receipt
from react_ray.recipe import Recipe
from react_ray.runtime.device import worker_device
from react_ray.runtime.map_parts import Work
from react_ray.stages.evaluating.pixel_references import Pixels
from react_ray.stages.evaluating.scored_model import ScoredModel
from react_ray.storage import local_file
from react_ray.training.head_file import read_head


@dataclass(frozen=True)
class Candidate:
    """A row of the table: what is scored, and the draft for its predictions."""

    name: str
    model: ScoredModel | Pixels  # small pictures to compare with are no model, and are scored as one
    scores: Draft[PredictionsFacts]
    slices: dict[int, Slice]  # of the parts that may be pending, by their number


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
        model, num_threads = candidate.model, self.recipe.cluster.threads_per_actor
        if not isinstance(model, ScoredModel):
            found = self.neighbours.classify_rows(table, self.tasks, num_threads)
            return candidate.scores.commit(part, found, time.monotonic() - began, fitted=self.fitted)
        found = classify_rows(table, self.embedder, self.scorers, self.tasks, num_threads)
        return candidate.scores.commit(part, found, time.monotonic() - began)

    def _load_pixels(self, pixels: Pixels) -> None:
        began = time.monotonic()
        self.neighbours = pixels.load(self.tasks, self.recipe.cluster.threads_per_actor)
        self.fitted = {
            "seconds": round(time.monotonic() - began, 3),
            "bytes": self.neighbours.num_bytes,
            "num_pairs": self.neighbours.num_pictures,
        }

    def _load(self, candidate: Candidate) -> None:
        model = candidate.model
        self.loaded = candidate.name
        if not isinstance(model, ScoredModel):
            self._load_pixels(model)
            return
        backbone = load_backbone(model.backbone, device=self.device, seed=self.recipe.seed)
        if model.wise_ft != 1:
            base = load_backbone(model.backbone.model_copy(update={"gated": ""}), seed=self.recipe.seed)
            interpolate(base.model, backbone.model, model.wise_ft)
        head = read_head(local_file(model.head), self.recipe.evaluate.wise_ft) if model.head else None
        grid = head.grid if head else 0
        self.embedder = Embedder(backbone, self.recipe.evaluate.batch_size, self.device, grid=grid)
        if head:
            self.scorers = head.scorers()
        else:
            self.scorers = prompt_scorers(self.embedder, self.tasks)
