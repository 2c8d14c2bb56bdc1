"""evaluate: every base that was customised and every arm's model on labelled images -> `scores/`, one row of predictions per image.

All models go through one pass over one pool of actors: starting a process costs more than a small evaluation set.
Next: evals/zeroshot.py, then report.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask, load_tasks
from react_ray.draft import Draft, create
from react_ray.evals.classify import classify_rows
from react_ray.evals.labelled import ReadSlices, Slice, slices_of
from react_ray.evals.zeroshot import summarise
from react_ray.gated.load import load_backbone
from react_ray.gated.wise_ft import interpolate
from react_ray.kinds import MODEL, PREDICTIONS, PredictionsFacts
from react_ray.manifest import Receipt
from react_ray.recipe import Recipe
from react_ray.runtime.device import worker_device
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, Work, map_parts
from react_ray.runtime.placement import actor_pool
from react_ray.storage import join, local_file
from react_ray.training.linear_head import HEAD_FILE, load_head


@dataclass(frozen=True)
class Candidate:
    """A model to evaluate and where its scores go."""

    name: str
    backbone: BackboneConfig
    scores: Draft[PredictionsFacts]
    head: str = ""  # URI of a linear head that stands in the place of the prompts


def run(recipe: Recipe) -> list[Artifact]:
    """Gives the sealed `predictions` of each base (one, unless arms customise several backbones) and of each arm, in this order."""
    tasks = load_tasks(recipe.tasks)
    slices = _slices(recipe, tasks)
    candidates = [_candidate(recipe, tasks, arm, len(slices)) for arm in [*recipe.bases(), *recipe.arm_names()]]
    open_ones = [c for c in candidates if not c.scores.sealed]
    jobs = [(c, part) for c in open_ones for part in c.scores.pending()]
    stage = MapStage(
        "evaluate",
        ReadSlices([slices[part] for _, part in jobs], [task.name for task in tasks]),
        Classify(jobs, recipe, tasks),
        noun="images",
        options=actor_pool(recipe.cluster, "embed"),
        retries=recipe.cluster.part_retries,
    )
    map_parts(stage, list(range(len(jobs))), len(jobs))
    return [c.scores.open() if c.scores.sealed else _seal(c, recipe) for c in candidates]


def _slices(recipe: Recipe, tasks: list[TargetTask]) -> list[Slice]:
    return [part for name, uri in recipe.evaluate.datasets.items() for part in slices_of(name, uri, tasks)]


def _candidate(recipe: Recipe, tasks: list[TargetTask], arm: str, num_parts: int) -> Candidate:
    bases, layout = recipe.bases(), Layout(recipe, arm if arm in recipe.arm_names() else "")
    parents, head = {}, ""
    if arm in bases:
        backbone = bases[arm]
    else:
        backbone = recipe.arm(arm).customized
        model = open_artifact(layout.of_arm("model"), MODEL)
        parents = {"model": model}
        if model.facts.method == "linear":
            head = join(model.uri, HEAD_FILE)
        else:
            backbone = backbone.model_copy(update={"gated": join(model.uri, "gated.safetensors")})
    config = recipe.evaluate.digested() | {
        "backbone": load_backbone(backbone, seed=recipe.seed).describe(),
        "tasks": [[task.name, list(task.class_names), list(task.templates)] for task in tasks],
    }
    return Candidate(arm, backbone, create(layout.scores(arm), PREDICTIONS, config, parents, num_parts), head)


def _seal(candidate: Candidate, recipe: Recipe) -> Artifact[PredictionsFacts]:
    scores = candidate.scores
    rows = summarise(pa.concat_tables(scores.read(part) for part in range(scores.num_parts)))
    names = ("dataset", "task", "metric", "value", "num_images")
    found = [dict(zip(names, row, strict=True)) | {"model": candidate.name, "seed": recipe.seed} for row in rows]
    return scores.seal(PredictionsFacts(found))


class Classify(Work):
    """Lives in an actor; keeps the model that it used last."""

    def __init__(self, jobs: list[tuple[Candidate, int]], recipe: Recipe, tasks: list[TargetTask]) -> None:
        self.jobs, self.recipe, self.tasks = jobs, recipe, tasks

    def setup(self) -> None:
        torch.set_num_threads(self.recipe.cluster.threads_per_actor)
        self.device = worker_device()
        self.loaded: str | None = None  # "" is the name of a recipe's only arm

    def __call__(self, job: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        candidate, part = self.jobs[job]
        self._load(candidate)
        found = classify_rows(table, self.embedder, self.classifiers, self.tasks, self.recipe.cluster.threads_per_actor)
        return candidate.scores.commit(part, found, time.monotonic() - began)

    def _load(self, candidate: Candidate) -> None:
        if self.loaded != candidate.name:
            backbone = load_backbone(candidate.backbone, device=self.device, seed=self.recipe.seed)
            wise_ft = self.recipe.evaluate.wise_ft
            if candidate.backbone.gated and wise_ft != 1:
                base = load_backbone(candidate.backbone.model_copy(update={"gated": ""}), seed=self.recipe.seed)
                interpolate(base.model, backbone.model, wise_ft)
            self.embedder = Embedder(backbone, self.recipe.evaluate.batch_size, self.device)
            if candidate.head:
                head_CD, _ = load_head(local_file(candidate.head), wise_ft)
                ends = np.cumsum([len(task.class_names) for task in self.tasks])
                parts = np.split(head_CD[: ends[-1]], ends[:-1])  # behind them, free queries
                self.classifiers = {task.name: part for task, part in zip(self.tasks, parts, strict=True)}
            else:
                self.classifiers = {task.name: self.embedder.zero_shot_classifier(task) for task in self.tasks}
            self.loaded = candidate.name
