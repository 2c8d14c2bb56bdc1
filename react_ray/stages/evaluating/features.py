"""Features: what each model makes of the labelled sets, computed once and read by every protocol of evaluation.

Takes the rows of the table and labelled sets, gives `labelled_features/<row>/<set>` (image vectors, with the label of
each image) and `class_vectors/<row>` (the zero-shot classifier of each task). Rows whose models embed alike share
those of the first of them. Both follow from other artifacts and files in one pass, so that those of another model, of
other images or of other labels are made anew; whether scores may change is for the scores to say.
Next: classify_slice.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask, by_own_names, load_tasks
from react_ray.draft import Draft, create_anew
from react_ray.evals.classify import embed_labelled
from react_ray.evals.copies import copies, digest_of
from react_ray.evals.labelled import IMAGES_PER_PART, Slice, read_slice
from react_ray.evals.labels import target_of
from react_ray.evals.set_name import field_of
from react_ray.gated.load import load_backbone
from react_ray.kinds import CLASS_VECTORS, LABELLED_FEATURES, LabelledFacts
from react_ray.manifest import Receipt
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime.device import worker_device
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, Work, map_parts
from react_ray.runtime.placement import actor_pool, is_soonest_here, num_threads
from react_ray.stages.evaluating.scored_model import ScoredModel, load_scored, scored_models
from react_ray.vectors import as_vectors, from_vectors


class Features(NamedTuple):
    """The labelled images of one task, in the order of the set."""

    image_ND: np.ndarray  # float16, unit rows; NaN where the image cannot be read
    target: np.ndarray  # their classes, as in evals/target.py
    labels: pa.Table  # columns row (in the set), task, label, position and also

    def of_rows(self, rows: np.ndarray) -> Features:
        return Features(self.image_ND[rows], self.target[rows], self.labels.take(pa.array(rows)))


@dataclass(frozen=True)
class Embedded:
    """What `embed_sets` gives: finished artifacts, by the name of the row that reads them."""

    features: dict[tuple[str, str], Artifact[LabelledFacts]] = field(default_factory=dict)  # by (row, set)
    classes: dict[str, Artifact[LabelledFacts]] = field(default_factory=dict)


def features_artifact(recipe: Recipe, row: str, dataset: str) -> Artifact[LabelledFacts]:
    """The image vectors of a labelled set by the model of a row of the table.

    row: as in `layout.models`. dataset: a name of evaluate.datasets, or the name under which `embed_sets` was given
    another set, such as train.test. ArtifactMissing if the set is not embedded.
    """
    first = _first_alike(scored_models(recipe), row)
    return open_artifact(Layout(recipe).labelled_features(first, dataset), LABELLED_FEATURES)


def class_vectors_of(recipe: Recipe, row: str) -> dict[str, np.ndarray]:
    """The zero-shot classifier of each task, float32 [C, D] with unit rows, by the model of a row of the table.

    ArtifactMissing for a row that has none: one whose model scores with a head and embeds like no row without.
    """
    first = _first_alike(scored_models(recipe), row)
    return classifiers_in(open_artifact(Layout(recipe).class_vectors(first), CLASS_VECTORS), load_tasks(recipe.tasks))


def features_in(table: pa.Table, task: TargetTask) -> Features:
    """table: schema.labelled_features, of all tasks."""
    of_task = table.filter(pc.equal(table["task"], task.name))
    labels = of_task.select(["row", "task", "label", "position", "also"])
    return Features(from_vectors(of_task["image"]), target_of(labels, task), labels)


def classifiers_in(artifact: Artifact[LabelledFacts], tasks: list[TargetTask]) -> dict[str, np.ndarray]:
    """Task -> float32 [C, D]. artifact: of these tasks, in their order."""
    found = {}
    for part, task in enumerate(tasks):
        column = artifact.read(part, ["text"])["text"].combine_chunks()
        found[task.name] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return found


def embed_sets(
    recipe: Recipe,
    tasks: list[TargetTask],
    found: Mapping[str, ScoredModel],
    wanted: Mapping[str, Mapping[str, list[Slice]]],
) -> Embedded:
    """Makes what is missing of the features of these sets, by the models of these rows, and opens all of them.

    found: all rows, as from `scored_models`. wanted: row -> name of a set -> its slices. A row whose model scores by
    prompts gets class vectors too.
    """
    first = {name: _first_alike(found, name) for name in wanted}
    sets: dict[str, dict[str, list[Slice]]] = {}
    for row, slices in wanted.items():
        sets.setdefault(first[row], {}).update(slices)
    by_prompts = {first[row] for row in wanted if not found[row].head}
    drafts: dict[tuple[str, str], Draft[LabelledFacts]] = {}  # of class vectors under (row, "")
    facts_of: dict[str, LabelledFacts] = {}
    jobs: list[_Job] = []
    layout = Layout(recipe)
    for row, slices in sets.items():
        model = found[row]
        described = load_backbone(model.backbone, seed=recipe.seed).describe()
        facts = facts_of[row] = LabelledFacts(described)
        parents = {name: parent for name, parent in model.parents.items() if name != "head"}
        config = {"backbone": described, "wise_ft": model.wise_ft}
        if row in by_prompts and tasks:
            prompts = config | {"tasks": [[task.name, task.class_names, task.templates] for task in tasks]}
            uri = layout.class_vectors(row)
            drafts[row, ""] = draft = create_anew(uri, CLASS_VECTORS, prompts, parents, len(tasks), facts)
            jobs += [_Job(model, draft, part, tasks[part]) for part in _pending(draft)]
        for name, parts in slices.items():
            of_images = config | {
                "grid": model.grid,
                "images": parts[0].digest,
                "tasks": [[task.name, task.class_names, *["squash"] * task.squash] for task in tasks],
            }
            uri = layout.labelled_features(row, name)
            drafts[row, name] = draft = create_anew(uri, LABELLED_FEATURES, of_images, parents, len(parts), facts)
            jobs += [_Job(model, draft, part, parts[part]) for part in _pending(draft)]
    _embed(recipe, tasks, jobs)
    made = {key: _seal(draft, key[1], facts_of[key[0]]) for key, draft in drafts.items()}
    return Embedded(
        {(row, name): made[first[row], name] for row, slices in wanted.items() for name in slices},
        {row: made[first[row], ""] for row in wanted if (first[row], "") in made},
    )


def _first_alike(found: Mapping[str, ScoredModel], row: str) -> str:
    """The first row whose model gives every image the vector that this one gives it."""
    return next(name for name, model in found.items() if model.embeds_like(found[row]))


def _seal(draft: Draft[LabelledFacts], dataset: str, facts: LabelledFacts) -> Artifact[LabelledFacts]:
    """Counts the images that a set holds more than once."""
    if draft.sealed or not dataset:
        return draft.seal()
    tables = [draft.read(part, ["sha256", "task", "label"]) for part in range(draft.num_parts)]
    sha256, *labels = (column.to_pylist() for column in pa.concat_tables(tables).columns)
    duplicated, told = copies(sha256, zip(*labels, strict=True))
    if told:
        say(f"{field_of(dataset)}: {told}")
    return draft.seal(replace(facts, duplicated=duplicated))


def _pending(draft: Draft[Any]) -> list[int]:
    return [] if draft.sealed else draft.pending()


@dataclass(frozen=True)
class _Job:
    model: ScoredModel
    draft: Draft[LabelledFacts]
    part: int
    of: Slice | TargetTask


def _embed(recipe: Recipe, tasks: list[TargetTask], jobs: list[_Job]) -> None:
    num_images = sum(min(IMAGES_PER_PART, job.of.files.num_rows) for job in jobs if isinstance(job.of, Slice))
    here = is_soonest_here(recipe.cluster, num_images)
    stage = MapStage(
        "evaluate",
        _ReadImages(jobs, tasks),
        EmbedLabelled(jobs, recipe, tasks, num_threads(recipe.cluster, here)),
        noun="images",
        options=actor_pool(recipe.cluster, "embed"),
        retries=recipe.cluster.part_retries,
        here=here,
    )
    map_parts(stage, list(range(len(jobs))), len(jobs))


class _ReadImages:
    def __init__(self, jobs: list[_Job], tasks: list[TargetTask]) -> None:
        self.jobs, self.tasks = jobs, tasks

    def __call__(self, number: int) -> pa.Table:
        of = self.jobs[number].of
        return read_slice(of, self.tasks) if isinstance(of, Slice) else pa.table({})


class EmbedLabelled(Work):
    """Embeds one slice of images, or the prompts of one task, at a time, and keeps the model of the last one."""

    def __init__(self, jobs: list[_Job], recipe: Recipe, tasks: list[TargetTask], num_threads: int) -> None:
        self.jobs, self.recipe, self.tasks, self.num_threads = jobs, recipe, tasks, num_threads

    def setup(self) -> None:
        torch.set_num_threads(self.num_threads)
        self.device = worker_device()
        self.loaded: ScoredModel | None = None

    def __call__(self, number: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        job = self.jobs[number]
        if self.loaded is None or not self.loaded.embeds_like(job.model):
            self._load(job.model)
        made = self._features(table) if isinstance(job.of, Slice) else self._classifier(job.of)
        return job.draft.commit(job.part, made, time.monotonic() - began)

    def _features(self, table: pa.Table) -> pa.Table:
        images = table["image"].to_pylist() if table.num_rows else []
        image_ND = embed_labelled(table, self.embedder, self.tasks, self.num_threads)
        failed_N = np.isnan(image_ND).any(axis=1)
        status = [
            schema.OK if not failed else schema.UNDECODABLE if data else schema.EMPTY
            for data, failed in zip(images, failed_N, strict=True)
        ]
        columns: dict[str, Any] = {
            name: table[name] if table.num_rows else [] for name in ("row", "task", "label", "position", "also")
        }
        columns |= {
            "status": pa.array(status, pa.string()),
            "sha256": pa.array(map(digest_of, images), pa.string()),
            "image": as_vectors(image_ND),
        }
        return schema.conform(pa.table(columns), schema.labelled_features(image_ND.shape[1]))

    def _classifier(self, task: TargetTask) -> pa.Table:
        text_CD = self.embedder.zero_shot_classifier(by_own_names(task))
        columns = {
            "position": range(len(text_CD)),
            "class_name": task.class_names,
            "text": pa.FixedSizeListArray.from_arrays(text_CD.ravel(), text_CD.shape[1]),
        }
        return schema.conform(pa.table(columns), schema.class_vectors(text_CD.shape[1]))

    def _load(self, model: ScoredModel) -> None:
        backbone = load_scored(model, self.recipe.seed, self.device)
        self.embedder = Embedder(backbone, self.recipe.evaluate.batch_size, self.device, grid=model.grid)
        self.loaded = model
