"""customize: trains `model/` on `retrieved/` and its `images/`, by Ray Train and DeepSpeed.

The driver plans every arm, checks all of them, trains and seals; the workers run stages/training/loop.py. Checkpoints
go to `checkpoints/step_*` below the arm; a run that was killed, or whose workers died, goes on from the last of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.image_tower import grid_dim
from react_ray.clip.prompts import load_tasks
from react_ray.counted import counted
from react_ray.draft import Draft, create
from react_ray.evals.labelled import slices_of
from react_ray.gated.config import CustomizeConfig, needs_text_tower, runs_no_model, text_trains, trains
from react_ray.gated.load import load_backbone
from react_ray.gated.method import resolved
from react_ray.kinds import IMAGES, MODEL, QUERIES, RETRIEVED, ModelFacts
from react_ray.manifest import MANIFEST
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.placement import placement
from react_ray.section import digest
from react_ray.stages.retrieval.embed_queries import queries_uri
from react_ray.stages.training.captions import told_of_backbone, with_captions
from react_ray.stages.training.checks import (
    check_deleted,
    check_resources,
    check_train_on,
    check_watching,
    check_workers,
    loader_cpus,
)
from react_ray.stages.training.image_vectors import image_vectors, labelled_vectors
from react_ray.stages.training.job import Job
from react_ray.stages.training.labelled_pairs import LabelledPairs, labelled_pairs
from react_ray.stages.training.launch import fit, workers_of
from react_ray.stages.training.mixed_rows import MixedRows
from react_ray.stages.training.online_eval import Watched
from react_ray.stages.training.rows import RetrievedRows, SourceRows
from react_ray.stages.training.second_stage import Trained, train_heads
from react_ray.stages.training.stored_vectors import make_head
from react_ray.stages.training.targets import class_targets, data_facts
from react_ray.storage import join, open_storage
from react_ray.training.blocks import check_batch_size, count_streams, held_bytes
from react_ray.training.movement import check_movement
from react_ray.training.schedule import described, from_data, schedule_of
from react_ray.training.trackers import check_installed


@dataclass
class _Arm:
    """One model to train. `recipe` has the arm's overrides applied, and `config` is its customize, resolved."""

    name: str
    recipe: Recipe
    config: CustomizeConfig
    backbone: dict[str, Any]
    image_size: int
    parents: dict[str, Artifact]  # retrieved, images; empty where the source itself is trained on
    plan: dict[str, Any]
    rows: RetrievedRows | SourceRows | MixedRows
    labelled: LabelledPairs | None
    told: list[str]  # the schedule, and what the user should know of it
    model: Draft[ModelFacts]

    @property
    def waits(self) -> bool:
        return not self.model.sealed and bool(self.model.pending())


def run(recipe: Recipe) -> list[Artifact]:
    """Returns the sealed `model` of every arm, then the `head` of every arm that has a second stage."""
    arms = [_plan(recipe, name) for name in recipe.arm_names()]
    jobs = [_job(recipe, arm) for arm in arms if arm.waits and not runs_no_model(arm.config.method)]
    check_resources(recipe.cluster, [job.config for job in jobs])
    for line in dict.fromkeys(line for arm in arms if arm.waits for line in _said_before(arm)):
        say(line)
    for arm in arms:
        if arm.waits and runs_no_model(arm.config.method):
            _make_head(recipe, arm)
    for alike in _by_workers(jobs):
        fit(alike, recipe)
    if jobs:
        open_storage(recipe.out).delete_all("ray_train")  # Ray Train's own state, of no use once the models are there
    models = {arm.name: Trained(_seal(arm), arm.config, arm.labelled) for arm in arms}
    return [*(trained.model for trained in models.values()), *train_heads(recipe, models)]


def _said_before(arm: _Arm) -> list[str]:
    left_out = [f"customize  {arm.rows.left_out}"] * bool(arm.rows.left_out)
    return left_out + [f"customize {arm.name}".strip() + f"  {line}" for line in arm.told]


def _plan(recipe: Recipe, name: str) -> _Arm:
    """Checks one arm, and creates or opens its model."""
    layout, wanted = Layout(recipe, name), recipe.arm(name)
    parents = _parents(recipe, layout, wanted) if wanted.customize.train_on == "retrieved" else {}
    check_train_on(wanted.customize)
    loaded = load_backbone(wanted.customized, seed=recipe.seed)
    backbone = loaded.describe()
    config = resolved(wanted.customize, wanted.customized.name, loaded.model)
    rows: RetrievedRows | SourceRows | MixedRows
    labelled = labelled_pairs(recipe, name) if config.labelled else None
    if parents:
        config = with_captions(config, parents["retrieved"], backbone, recipe.embed.captions)
        vectors, classes = not needs_text_tower(config), config.class_loss > 0
        rows = RetrievedRows(parents["retrieved"], parents["images"], vectors, classes)
        if labelled and config.mixes_labels:
            of_labels = RetrievedRows(labelled.retrieved, labelled.images, vectors, classes)
            rows = MixedRows(rows, of_labels, config.labelled_share)
            parents |= labelled.parents()
    else:
        rows = SourceRows(wanted.ingest, config.every_caption)
    num_pairs = sum(rows.block_sizes)
    config = from_data(config, num_pairs if config.labelled_alone else _asked_for(parents, num_pairs))
    check_installed(config.trackers)
    if config.head:
        grid_dim(loaded.model, config.head_grid)  # refuses what the tower has not, before anything is trained
    check_workers(config)
    if not runs_no_model(config.method):
        check_batch_size(rows, config.batch_size)
    told = [f"{counted(num_pairs, 'pair')}, without any training"]
    if trains(config.method):
        hardly = check_movement(config, num_pairs, f"customize {name}".strip())
        told = [described(config, num_pairs), *([hardly] if hardly else [])]
    if isinstance(rows, MixedRows):
        told.insert(0, rows.told())
    check_watching(wanted)
    data = {} if parents else wanted.ingest.digested()
    plan = config.of_model() | {"backbone": backbone, "seed": recipe.seed, "data": data}
    model = create(layout.of_arm("model"), MODEL, plan, parents, 1)
    return _Arm(name, wanted, config, backbone, loaded.image_size, parents, plan, rows, labelled, told, model)


def _asked_for(parents: dict[str, Artifact], num_pairs: int) -> int:
    """The number of pairs that a schedule follows from: those that were retrieved, so that a random control, which has
    as many, trains alike; those that train if most images are missing."""
    retrieved = parents["retrieved"].rows if parents else num_pairs
    return retrieved if 2 * num_pairs >= retrieved else num_pairs


def _parents(recipe: Recipe, layout: Layout, wanted: Recipe) -> dict[str, Artifact]:
    root = layout.retrieved_root()
    retrieved = open_artifact(join(root, "retrieved"), RETRIEVED, "retrieve")
    images_by = "retrieve" if recipe.download.of == "pairs" else "download"
    images = open_artifact(join(root, "images"), IMAGES, images_by)
    if not open_storage(layout.of_arm("model")).exists(MANIFEST):
        check_deleted(wanted, retrieved)
    return {"retrieved": retrieved, "images": images}


def _job(recipe: Recipe, arm: _Arm) -> Job:
    layout, config = Layout(recipe, arm.name), arm.config
    parents = {name: parent.content for name, parent in arm.parents.items()}
    streams = count_streams(arm.rows, config.batch_size, config.streams)
    readers, augments = config.num_workers * max(1, config.data_workers), bool(config.augment.auto)
    rows_bytes = held_bytes(arm.rows, streams, readers, config.cache_gb, arm.image_size, augments)
    return Job(
        backbone=arm.recipe.customized,
        config=config,
        rows=arm.rows,
        classes=class_targets(recipe, arm.name, arm.backbone) if config.class_loss else None,
        **_data_facts(recipe, arm),
        seed=recipe.seed,
        arm=arm.name,
        model=arm.model,
        checkpoints=layout.of_arm("checkpoints"),
        run=layout.run,
        digest=digest([arm.plan, parents]),
        recipe_yaml=arm.recipe.yaml(everything=False),
        loaders={"num_cpus": loader_cpus()} | placement(recipe.cluster, "fetch"),
        watched=_watched(arm.recipe, layout) if config.watch_dataset else None,
        rows_gb=rows_bytes / 2**30,
    )


def _data_facts(recipe: Recipe, arm: _Arm) -> dict[str, Any]:
    labelled_N = arm.rows.labelled_N if isinstance(arm.rows, MixedRows) else None
    retrieved, queries = arm.parents.get("retrieved"), queries_uri(recipe, arm.name)
    facts = data_facts(retrieved, queries, arm.config, arm.recipe.name, labelled_N)
    if arm.labelled and arm.config.mixes_labels:
        facts["card"] |= {"labelled": arm.labelled.card(arm.config)}
    return facts


def _watched(recipe: Recipe, layout: Layout) -> Watched:
    tasks = load_tasks(recipe.tasks)
    name = recipe.customize.watch_dataset
    return Watched(
        backbone=recipe.customized,
        seed=recipe.seed,
        text_trains=text_trains(recipe.customize.method),
        tasks=tuple(tasks),
        dataset=name,
        slices=tuple(slices_of(name, recipe.evaluate.datasets[name], tasks, recipe.evaluate.max_unreadable)),
        place=join(layout.of_arm("checkpoints"), "watched"),
    )


def _make_head(recipe: Recipe, arm: _Arm) -> None:
    """Makes a head of the image vectors, on the driver."""
    retrieved = arm.parents["retrieved"]
    queries = open_artifact(queries_uri(recipe, arm.name), QUERIES)
    images = image_vectors(recipe, arm.name, arm.parents["images"])
    labelled = None
    if arm.labelled and arm.config.mixes_labels:
        labelled = (arm.labelled.retrieved, labelled_vectors(recipe, arm.name, arm.labelled.images))
    facts = _data_facts(recipe, arm)
    backbone_config = arm.recipe.customized.model_dump()
    info: dict[str, Any] = {"backbone": arm.backbone, "backbone_config": backbone_config, "method": arm.config.method}
    info |= {"digest": digest(arm.plan), "seed": recipe.seed, "schedule": schedule_of(arm.config)}
    recipe_yaml = arm.recipe.yaml(everything=False)
    make_head(arm.model, retrieved, images, queries, arm.config, recipe.seed, info, facts, recipe_yaml, labelled)


def _by_workers(jobs: list[Job]) -> Iterable[list[Job]]:
    """Jobs that the same workers can train, in the order of the first of each group."""
    groups: dict[tuple[float, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(workers_of(job.config), []).append(job)
    return groups.values()


def _seal(arm: _Arm) -> Artifact[ModelFacts]:
    told = told_of_backbone(arm.config)
    return arm.model.seal(ModelFacts(arm.backbone, arm.config.method, [told] * bool(told) + arm.told))
