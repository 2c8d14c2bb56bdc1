"""Fine-tunes the model of a row of the table from few labels, and scores the test images with what came of it.

Like few_shot_work.py, but a method changes the model, so that the images themselves are read: the drawn ones are kept
in memory, encoded, and the test images pass the fine-tuned model part by part. Next: evals/fine_tuning.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.classify import embed_rows
from react_ray.evals.few_shot import FINE_TUNING, FineTuning
from react_ray.evals.fine_tuning import (
    BATCH_SIZE,
    EPOCHS,
    LEARNING_RATES,
    LEAST_STEPS,
    fine_tune,
    trained_names,
)
from react_ray.evals.labelled import Slice, read_slice
from react_ray.evals.set_name import training_set
from react_ray.evals.shot_methods import Learned
from react_ray.gated.load import load_backbone
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime.device import worker_device
from react_ray.runtime.map_parts import MapStage, ReadNothing, map_parts
from react_ray.runtime.placement import actor_pool, is_soonest_here
from react_ray.stages.evaluating.features import Features
from react_ray.stages.evaluating.few_shot_work import Job, LearnFromShots
from react_ray.stages.evaluating.scored_model import ScoredModel, load_scored

COST = 3  # of a training step in forward passes


def rows_to_fine_tune(recipe: Recipe, rows: Mapping[str, ScoredModel]) -> dict[str, list[FineTuning]]:
    """The methods of the recipe by which the model of each row can be fine-tuned.

    ConfigError if fine-tune-gated is asked for and no row has gated blocks; rows without are named in one line.
    """
    wanted = [method for method in FINE_TUNING if method in recipe.evaluate.shot_methods]
    found: dict[str, list[FineTuning]] = {}
    without: dict[str, ConfigError] = {}
    for row, model in rows.items() if wanted else ():
        backbone = load_backbone(model.backbone, seed=recipe.seed)
        for method in wanted:
            try:
                trained_names(backbone.model, method)
                found.setdefault(row, []).append(method)
            except ConfigError as error:
                without[row] = error
    if without and len(without) == len(rows):
        raise next(iter(without.values()))
    if without:
        say(f"evaluate: {', '.join(without)} {'has' if len(without) == 1 else 'have'} no gated blocks to fine-tune")
    return found


def fine_tune_rows(
    recipe: Recipe,
    jobs: list[Job],
    tasks: list[TargetTask],
    rows: Mapping[str, ScoredModel],
    slices: dict[str, list[Slice]],
) -> None:
    """Commits the parts of these jobs, all of whose methods are of FINE_TUNING.

    slices: of all sets, by the names under which they are embedded.
    """
    cluster = recipe.cluster
    stage = MapStage(
        "fine-tune",
        ReadNothing(),
        FineTuneFromShots(jobs, tasks, recipe, rows, slices),
        noun="scores",
        options=actor_pool(cluster, "embed"),
        retries=cluster.part_retries,
        here=is_soonest_here(cluster, sum(_num_passes(job, tasks) for job in jobs)),
    )
    map_parts(stage, list(range(len(jobs))), len(jobs))


class FineTuneFromShots(LearnFromShots):
    """Keeps the model of the last row; each training has a copy of it."""

    def __init__(
        self,
        jobs: list[Job],
        tasks: list[TargetTask],
        recipe: Recipe,
        rows: Mapping[str, ScoredModel],
        slices: dict[str, list[Slice]],
    ) -> None:
        super().__init__(jobs, tasks, recipe.cluster.threads_per_actor)
        self.recipe, self.rows, self.slices = recipe, rows, slices

    def setup(self) -> None:
        super().setup()
        self.device, self.model = worker_device(), ""

    def learned(self, job: Job, task: TargetTask, drawn: Features, test: Features) -> list[Learned]:
        method, of = job.learning[0], job.of
        assert method in FINE_TUNING
        if self.model != of.row:
            self.backbone, self.model = load_scored(self.rows[of.row], self.recipe.seed, self.device), of.row
        own = replace(self.backbone, model=copy.deepcopy(self.backbone.model))
        own = own.squashing() if task.squash else own
        embedder = Embedder(own, self.recipe.evaluate.batch_size, self.device)
        images = self._drawn(of.dataset, task, drawn.labels["row"].to_pylist())
        found = fine_tune(embedder, method, images, self.shots(job, task, drawn), self.num_threads)
        test_ND = [
            embed_rows(table["image"].to_pylist(), embedder, self.num_threads)
            for table in self._tables(of.dataset, task)
            if table.num_rows
        ]
        score_NC = found(np.concatenate(test_ND))
        assert len(score_NC) == len(test.target), "the features are of other rows of the set"
        return [Learned(score_NC, told=f"learning rate {found.learning_rate:g}", collapsed=found.collapsed)]

    def _drawn(self, dataset: str, task: TargetTask, rows: list[int]) -> list[bytes]:
        """The encoded images of these rows of the training set, in this order."""
        wanted, found = set(rows), dict[int, bytes]()
        for table in self._tables(training_set(dataset), task):
            here = zip(table["row"].to_pylist(), table["image"], strict=True)
            found |= {row: image.as_py() for row, image in here if row in wanted}
        return [found[row] for row in rows]

    def _tables(self, dataset: str, task: TargetTask) -> Iterator[pa.Table]:
        return (read_slice(part, [task]) for part in self.slices[dataset])


def _num_passes(job: Job, tasks: list[TargetTask]) -> int:
    """Forward passes of an image, about."""
    num_drawn, num_trainings = job.num_drawn(tasks), 1 if job.learning[1] == 1 else len(LEARNING_RATES) + 1
    trained = max(EPOCHS * num_drawn, LEAST_STEPS * min(BATCH_SIZE, num_drawn))
    return COST * num_trainings * trained + job.of.test.rows
