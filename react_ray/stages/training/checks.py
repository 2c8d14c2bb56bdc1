"""Refuses, before anything starts, the recipes that a training could not follow."""

from __future__ import annotations

import numpy as np

from react_ray.artifact import Artifact
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.gated.config import CustomizeConfig, runs_no_model
from react_ray.index.deleted import deleted_pairs
from react_ray.kinds import RetrievedFacts
from react_ray.manifest import MANIFEST
from react_ray.recipe import ClusterConfig, Recipe
from react_ray.runtime.cluster import nodes
from react_ray.runtime.layout import Layout
from react_ray.runtime.resources import Demand, require_resources
from react_ray.storage import open_storage
from react_ray.training.deepspeed_config import deepspeed_config


def check_trainings(recipe: Recipe) -> None:
    """Checks every arm whose model does not exist yet, before the hours of work that come before its training."""
    arms = [
        recipe.arm(arm)
        for arm in recipe.arm_names()
        if not open_storage(Layout(recipe, arm).of_arm("model")).exists(MANIFEST)
    ]
    for arm in arms:
        check_workers(arm.customize)
        check_watching(arm)
    check_resources(recipe.cluster, [arm.customize for arm in arms if not runs_no_model(arm.customize.method)])


def check_workers(config: CustomizeConfig) -> None:
    """ConfigError for what DeepSpeed or the loader would refuse later, with any number of workers that may occur.

    The batch size may still be left to the data.
    """
    if config.min_workers > config.num_workers:
        raise ConfigError(
            f"customize.min_workers={config.min_workers} is more than num_workers={config.num_workers}; lower it"
        )
    for number in range(config.min_workers or config.num_workers, config.num_workers + 1):
        deepspeed_config(config, number)
        if not config.batch_size and number & (number - 1):
            raise ConfigError(
                f"customize.batch_size 0 becomes a power of two, which {number} workers cannot share; set it to a "
                "multiple of all numbers of workers, or num_workers and min_workers to powers of two"
            )
        if config.batch_size % number:
            raise ConfigError(
                f"customize.batch_size {config.batch_size} is not a multiple of {number} workers; change one of them"
            )


def check_train_on(config: CustomizeConfig) -> None:
    wants_classes = runs_no_model(config.method) * f"method={config.method}" or config.head * "head"
    if wants_classes and config.train_on == "source":
        raise ConfigError(
            f"customize.{wants_classes} needs retrieved pairs, which know their class; set train_on=retrieved"
        )
    if config.class_loss and config.train_on == "source":
        raise ConfigError(
            "customize.class_loss needs retrieved pairs, which know their class; set it to 0 or train_on=retrieved"
        )


def check_resources(cluster: ClusterConfig, configs: list[CustomizeConfig]) -> None:
    """ResourceError if Ray could never place the workers and what runs beside them.

    configs: of trainings that follow each other.
    """
    for demands, hint in dict.fromkeys(_demands(config) for config in configs):
        require_resources(cluster, list(demands), hint)


def _demands(config: CustomizeConfig) -> tuple[tuple[Demand, ...], str]:
    """(what one training asks of Ray, the fields to lower)"""
    workers = config.min_workers or config.num_workers
    demands = [Demand("customize", workers, config.cpus_per_worker, config.gpus_per_worker, "train")]
    fields = ["min_workers" if config.min_workers else "num_workers", "cpus_per_worker"] + ["gpus_per_worker"] * (
        config.gpus_per_worker > 0
    )
    if config.data_workers and (cpus := loader_cpus()):
        demands.append(Demand("customize.data_workers", workers * config.data_workers, cpus, 0, "fetch"))
        fields.append("data_workers")
    if config.watch_dataset and config.watch_gpus:
        demands.append(Demand("customize.watch_gpus", 1, 0, config.watch_gpus, "embed"))
        fields.append("watch_gpus")
    return tuple(demands), f"lower customize.{', '.join(fields[:-1])} or {fields[-1]}"


def loader_cpus() -> int:
    """Ray CPUs of a process that makes batches: 0 on one machine, where it shares the cores that the workers
    reserved."""
    return 1 if len(nodes()) > 1 else 0


def check_deleted(recipe: Recipe, retrieved: Artifact[RetrievedFacts]) -> None:
    """ArtifactMismatch if retrieved pairs were deleted from the database since: who opted out is not trained on."""
    deleted = deleted_pairs(recipe.database)
    if not len(deleted):
        return
    gone = sum(int(np.isin(table["pair_id"].to_numpy(), deleted).sum()) for table in retrieved.tables(["pair_id"]))
    if gone:
        raise ArtifactMismatch(
            f"{gone} pairs of {retrieved.uri} were deleted from {recipe.database} since; retrieve and train into "
            "another `out`, or delete what was retrieved and run `react-ray retrieve RECIPE` again"
        )


def check_watching(recipe: Recipe) -> None:
    name, keep = recipe.customize.watch_dataset, recipe.customize.keep
    known = recipe.evaluate.datasets
    if keep == "best" and not name:
        raise ConfigError(
            "customize.keep=best needs a measure of it; set customize.watch_dataset to one of evaluate.datasets"
        )
    if name and name not in known:
        raise ConfigError(
            f"customize.watch_dataset={name} is none of evaluate.datasets ({', '.join(known) or 'empty'}); "
            "name one of them"
        )
    if keep == "best" and name == recipe.evaluate.headline:
        raise ConfigError(
            f"customize.keep=best would choose by {name}, which the report shows: it would flatter; watch another "
            "dataset, or set evaluate.headline to another"
        )
