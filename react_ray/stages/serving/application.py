"""The Ray Serve application: what `react-ray serve` runs on a cluster, and what `serve deploy` and RayService import.

`application({"recipe": "s3://bucket/recipe.yaml"})` loads the recipe, cuts its index into groups and binds a deployment
for each group behind the one that takes requests.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.config import AutoscalingContext, AutoscalingPolicy
from ray.serve.handle import DeploymentHandle

from react_ray.errors import ConfigError
from react_ray.recipe import Recipe, load_recipe, recipe_of
from react_ray.runtime.cluster import omp_policy
from react_ray.runtime.placement import placement
from react_ray.serve_config import ServeConfig
from react_ray.serving.app import asgi_app
from react_ray.serving.cutting import num_groups
from react_ray.serving.groups import Opened
from react_ray.stages.serving.group_replica import QUESTIONS, GroupReplica
from react_ray.stages.serving.serve_group import ServeGroup

NAME = "react-ray"
TARGET = 4  # questions or requests at once of each replica, above which Serve starts another
# Serve looks this often whether a process lives. By its default of 10 s, a group of one process may be back later than
# a question waits (PATIENCE_S of serve_group.py).
HEALTH_S = 2.0
SPARE = 64  # requests beyond serve.max_in_flight that reach an ingress, to be told to come again


@serve.deployment
@serve.ingress()
class Ingress:
    """Takes requests, encodes their queries, asks the groups and merges."""

    def __init__(self, recipe: str, is_open: bool, *groups: DeploymentHandle[Any]) -> None:
        """recipe: as Recipe.yaml writes it. is_open: it may be reached by any name, without a key."""
        self._recipe, self._is_open, self._groups = recipe_of(recipe.encode(), "the recipe"), is_open, groups

    def __serve_build_asgi_app__(self) -> FastAPI:
        return asgi_app(self._recipe, serve_groups(self._recipe, self._groups), self._is_open)


def application(args: dict[str, str]) -> serve.Application:
    """args: `recipe`, its URI, and any number of section.field: value.

    For `serve deploy`, whose proxy listens where its own configuration says, so that a recipe without serve.api_key_env
    answers whoever reaches it.
    """
    overrides = [f"{name}={value}" for name, value in args.items() if name != "recipe"]
    if "recipe" not in args:
        raise ConfigError("the application needs args.recipe, the URI of a recipe; add it to the Serve configuration")
    return bound(load_recipe(args["recipe"], overrides), is_open=True)


def bound(recipe: Recipe, is_open: bool) -> serve.Application:
    """The application of a loaded recipe. ArtifactMissing if there is nothing to serve."""
    config, cluster = recipe.serve, recipe.cluster
    ingress: Any = Ingress
    app: serve.Application = ingress.options(
        ray_actor_options={"num_cpus": int(cluster.roles), "runtime_env": omp_policy(), **placement(cluster, "embed")},
        health_check_period_s=HEALTH_S,
        max_ongoing_requests=config.max_in_flight + SPARE,
        **_width(config, config.ingress_replicas, config.most_ingress_replicas),
    ).bind(recipe.yaml(), is_open, *groups(recipe))
    return app


def groups(recipe: Recipe) -> list[serve.Application]:
    """One deployment for each group of shards. ArtifactMissing if there is nothing to serve."""
    count = num_groups(Opened.at(recipe.database).index, recipe.serve.group_memory_gb)
    return [_group(recipe, number, count) for number in range(count)]


def serve_groups(recipe: Recipe, handles: Sequence[DeploymentHandle[Any]]) -> list[ServeGroup]:
    """handles: of the deployments of `groups`."""
    config = recipe.serve
    return [
        ServeGroup(group_name(number), handle, config.timeout_s, hedges=config.most_replicas > 1)
        for number, handle in enumerate(handles)
    ]


def _group(recipe: Recipe, number: int, count: int) -> serve.Application:
    config, cluster = recipe.serve, recipe.cluster
    # Where there are no nodes of roles, one machine serves everything: groups, which answer together, share its cores.
    threads = cluster.threads_per_actor if cluster.roles else max(1, (cluster.num_cpus or os.cpu_count() or 1) // count)
    options = {"num_cpus": threads if cluster.roles else 0, "runtime_env": omp_policy(), **placement(cluster, "index")}
    cache = cluster.shard_cache_dir, int(cluster.shard_cache_gb * 2**30)
    replica: Any = serve.deployment(GroupReplica)
    group: serve.Application = replica.options(
        name=group_name(number),
        ray_actor_options=options,
        health_check_period_s=HEALTH_S,
        **_width(config, config.min_replicas, config.most_replicas, AutoscalingPolicy(policy_function=by_questions)),
    ).bind(recipe.database, number, count, threads, config.reload_s, *cache)
    return group


def group_name(number: int) -> str:
    return f"group-{number}"


def _width(config: ServeConfig, fewest: int, most: int, policy: AutoscalingPolicy | None = None) -> dict[str, Any]:
    """policy: None = by the requests that Serve has brought to each."""
    if most == fewest:
        return {"num_replicas": fewest}
    delays = {"upscale_delay_s": config.upscale_delay_s, "downscale_delay_s": config.downscale_delay_s}
    wanted = {"target_ongoing_requests": TARGET} if policy is None else {"policy": policy}
    width = {"min_replicas": fewest, "max_replicas": most}
    return {"autoscaling_config": {**width, **delays, **wanted}, "num_replicas": None}


def by_questions(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """How many replicas of a group Serve wants, from what each says it has to do: Serve sees none of their questions.

    Serve pickles it with the constants that it names, so that its controller needs nothing of this package.
    """
    questions = (context.aggregated_metrics or {}).get(QUESTIONS, {})
    return sum(questions.values()) / TARGET, {}
