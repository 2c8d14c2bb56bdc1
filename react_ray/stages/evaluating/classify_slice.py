"""ClassifySlice: classifies slices of labelled images, whose vectors features.py has made, by prompts or heads.

Rows that compare small pictures are no models, and read the images themselves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow as pa
import torch

from react_ray import schema
from react_ray.clip.prompts import TargetTask
from react_ray.draft import Draft
from react_ray.evals.classify import score_rows
from react_ray.evals.labelled import IMAGES_PER_PART, Slice, read_slice
from react_ray.kinds import PredictionsFacts
from react_ray.manifest import Receipt
from react_ray.recipe import Recipe
from react_ray.runtime.map_parts import Work
from react_ray.stages.evaluating.features import Embedded, classifiers_in
from react_ray.stages.evaluating.pixel_references import Pixels
from react_ray.stages.evaluating.scored_model import ScoredModel
from react_ray.storage import local_file
from react_ray.training.head_file import read_head
from react_ray.training.scorer import ClassVectors, Scorer
from react_ray.vectors import from_vectors


@dataclass(frozen=True)
class Candidate:
    """A row of the table: what is scored, and the draft for its predictions."""

    name: str
    model: ScoredModel | Pixels
    scores: Draft[PredictionsFacts]
    slices: dict[int, Slice]  # of the parts that may be pending, by their number


Job = tuple[Candidate, int]  # and the part of its predictions


class ReadSlice:
    """The vectors of the slice by the candidate's model, or the images where pixels are compared; and their labels."""

    def __init__(self, jobs: list[Job], tasks: list[TargetTask], embedded: Embedded) -> None:
        self.jobs, self.tasks, self.embedded = jobs, tasks, embedded

    def __call__(self, number: int) -> pa.Table:
        candidate, part = self.jobs[number]
        of = candidate.slices[part]
        if not isinstance(candidate.model, ScoredModel):
            return read_slice(of, self.tasks)
        table = self.embedded.features[candidate.name, of.dataset].read(of.start // IMAGES_PER_PART)
        return table.append_column("dataset", pa.array([of.dataset] * table.num_rows, pa.string()))


class ClassifySlice(Work):
    """Classifies one slice at a time, and keeps what scores the classes for the last row of the table.

    jobs: (candidate, part of its predictions), by the number of the job.
    """

    def __init__(
        self, jobs: list[Job], recipe: Recipe, tasks: list[TargetTask], embedded: Embedded, num_threads: int
    ) -> None:
        self.jobs, self.recipe, self.tasks = jobs, recipe, tasks
        self.classes, self.num_threads = embedded.classes, num_threads

    def setup(self) -> None:
        torch.set_num_threads(self.num_threads)
        self.loaded = ""

    def __call__(self, number: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        candidate, part = self.jobs[number]
        if not table.num_rows:
            return candidate.scores.commit(part, schema.PREDICTIONS.empty_table(), time.monotonic() - began)
        if not isinstance(candidate.model, ScoredModel):
            return self._compare_pixels(candidate, candidate.model, part, table)
        if self.loaded != candidate.name:
            self.scorers, self.loaded = self._scorers(candidate.name, candidate.model), candidate.name
        found = score_rows(table, from_vectors(table["image"]), self.scorers, self.tasks)
        return candidate.scores.commit(part, found, time.monotonic() - began)

    def _compare_pixels(self, candidate: Candidate, pixels: Pixels, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        if self.loaded != candidate.name:
            self.neighbours = pixels.load(self.tasks, self.num_threads)
            self.fitted = {
                "seconds": round(time.monotonic() - began, 3),
                "bytes": self.neighbours.num_bytes,
                "num_pairs": self.neighbours.num_pictures,
            }
            self.loaded = candidate.name
        found = self.neighbours.classify_rows(table, self.tasks, self.num_threads)
        return candidate.scores.commit(part, found, time.monotonic() - began, fitted=self.fitted)

    def _scorers(self, name: str, model: ScoredModel) -> dict[str, Scorer]:
        if model.head:
            return read_head(local_file(model.head), self.recipe.evaluate.wise_ft).scorers()
        found = classifiers_in(self.classes[name], self.tasks)
        return {task: ClassVectors(vector_CD) for task, vector_CD in found.items()}
