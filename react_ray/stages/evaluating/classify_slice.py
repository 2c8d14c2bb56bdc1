"""ClassifySlice: classifies slices of labelled images with one model after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow as pa
import torch

from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask
from react_ray.draft import Draft
from react_ray.evals.classify import embed_rows, prompt_scorers, score_rows
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
from react_ray.training.scorer import Scorer


@dataclass(frozen=True)
class Candidate:
    """A row of the table: what is scored, and the draft for its predictions."""

    name: str
    model: ScoredModel | Pixels  # small pictures to compare with are no model, and are scored as one
    scores: Draft[PredictionsFacts]
    slices: dict[int, Slice]  # of the parts that may be pending, by their number


class ClassifySlice(Work):
    """Classifies one slice at a time, and keeps the model of the last slice.

    jobs: (candidate, part of its predictions), by the number of the job; those of one job have the same slice and the
    same image vectors, which are computed once.
    """

    def __init__(
        self, jobs: list[list[tuple[Candidate, int]]], recipe: Recipe, tasks: list[TargetTask], num_threads: int
    ) -> None:
        self.jobs, self.recipe, self.tasks, self.num_threads = jobs, recipe, tasks, num_threads

    def setup(self) -> None:
        torch.set_num_threads(self.num_threads)
        self.device = worker_device()
        self.loaded: ScoredModel | Pixels | None = None
        self.scorers: dict[str, dict[str, Scorer]] = {}  # of the candidates that the loaded model embeds for

    def __call__(self, job: int, table: pa.Table) -> Receipt:
        """Returns the receipt of the last candidate."""
        began = time.monotonic()
        first = self.jobs[job][0][0].model
        if not isinstance(first, ScoredModel):
            return self._compare_pixels(first, self.jobs[job], table)
        if not (isinstance(self.loaded, ScoredModel) and self.loaded.embeds_like(first)):
            self._load(first)
        image_ND = embed_rows(table, self.embedder, self.num_threads)
        for candidate, part in self.jobs[job]:
            assert isinstance(candidate.model, ScoredModel)
            if candidate.name not in self.scorers:
                self.scorers[candidate.name] = self._scorers(candidate.model)
            found = score_rows(table, image_ND, self.scorers[candidate.name], self.tasks)
            receipt = candidate.scores.commit(part, found, time.monotonic() - began)
            began = time.monotonic()
        return receipt

    def _compare_pixels(self, pixels: Pixels, job: list[tuple[Candidate, int]], table: pa.Table) -> Receipt:
        began = time.monotonic()
        [(candidate, part)] = job
        if self.loaded is not pixels:
            self.neighbours = pixels.load(self.tasks, self.num_threads)
            self.fitted = {
                "seconds": round(time.monotonic() - began, 3),
                "bytes": self.neighbours.num_bytes,
                "num_pairs": self.neighbours.num_pictures,
            }
            self.loaded = pixels
        found = self.neighbours.classify_rows(table, self.tasks, self.num_threads)
        return candidate.scores.commit(part, found, time.monotonic() - began, fitted=self.fitted)

    def _load(self, model: ScoredModel) -> None:
        backbone = load_backbone(model.backbone, device=self.device, seed=self.recipe.seed)
        if model.wise_ft != 1:
            base = load_backbone(model.backbone.model_copy(update={"gated": ""}), seed=self.recipe.seed)
            interpolate(base.model, backbone.model, model.wise_ft)
        self.embedder = Embedder(backbone, self.recipe.evaluate.batch_size, self.device, grid=model.grid)
        self.loaded, self.scorers = model, {}

    def _scorers(self, model: ScoredModel) -> dict[str, Scorer]:
        if model.head:
            return read_head(local_file(model.head), self.recipe.evaluate.wise_ft).scorers()
        return prompt_scorers(self.embedder, self.tasks)
