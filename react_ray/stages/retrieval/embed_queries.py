"""Embeds class prompts, free sentences and seed images as `queries/`, with the model of the database."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask, TasksConfig, load_tasks
from react_ray.clip.queries import Query, make_queries, task_queries
from react_ray.draft import create
from react_ray.errors import ConfigError
from react_ray.gated.load import load_backbone
from react_ray.kinds import QUERIES, QueriesFacts
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.selection.config import Prompts
from react_ray.storage import join, read_bytes
from react_ray.vectors import as_vectors


def queries_uri(recipe: Recipe, arm: str) -> str:
    """The place of an arm's queries: arms that ask what the run asks share its queries."""
    layout, wanted = Layout(recipe, arm), recipe.arm(arm)
    same = (wanted.tasks, wanted.retrieve.prompts) == (recipe.tasks, recipe.retrieve.prompts)
    return layout.of_run("queries") if same else join(layout.retrieved_root(), "queries")


def embed_queries(
    uri: str,
    tasks_config: TasksConfig,
    prompts: Prompts,
    backbone_config: BackboneConfig,
    batch_size: int = 256,
    seed: int = 0,
) -> Artifact[QueriesFacts]:
    """Returns the sealed `queries`.

    prompts: "separate" makes one query per class and prompt (as in REACT), "averaged" one per class, the mean of its
    prompts. seed: of random weights.
    """
    tasks = load_tasks(tasks_config)
    asked = make_queries(tasks_config, prompts == "averaged")
    seeds = {image: read_bytes(image) for query in asked if query.modality == "image" for image in query.parts}
    config = {
        "sentences": tasks_config.queries,
        "seeds": [
            [q.class_name, [hashlib.sha256(seeds[i]).hexdigest() for i in q.parts]]
            for q in asked
            if q.modality == "image"
        ],
    }
    return _embed(uri, tasks, asked, config, seeds, prompts, backbone_config, batch_size, seed)


def embed_task_prompts(
    uri: str, tasks: list[TargetTask], prompts: Prompts, backbone_config: BackboneConfig, batch_size: int, seed: int
) -> Artifact[QueriesFacts]:
    """As `embed_queries`, for tasks alone."""
    asked = task_queries(tasks, prompts == "averaged")
    return _embed(uri, tasks, asked, {}, {}, prompts, backbone_config, batch_size, seed)


def _embed(
    uri: str,
    tasks: list[TargetTask],
    asked: list[Query],
    config: dict[str, Any],
    seeds: dict[str, bytes],
    prompts: Prompts,
    backbone_config: BackboneConfig,
    batch_size: int,
    seed: int,
) -> Artifact[QueriesFacts]:
    averaged = prompts == "averaged"
    backbone = load_backbone(backbone_config, seed=seed)
    config = config | {
        "tasks": [[t.name, list(t.class_names), [list(s) for s in t.synonyms], list(t.templates)] for t in tasks],
        "prompts": prompts,
        "backbone": backbone.describe(),
    }
    queries = create(uri, QUERIES, config, {}, 1)
    if queries.sealed:
        return queries.open()
    began = time.monotonic()
    embedder = Embedder(backbone, batch_size, "cpu")
    texts = [q for q in asked if q.modality == "text"]
    images = [q for q in asked if q.modality == "image"]
    with Progress("queries", len(asked), "queries", unit="queries") as progress:
        free = [q.prompt for q in texts]
        vectors = []
        if averaged:  # free sentences have no templates, so they are embedded as they are
            vectors = [embedder.zero_shot_classifier(task).astype(np.float16) for task in tasks]
            free = free[sum(len(task.class_names) for task in tasks) :]
        vectors.append(embedder.embed_texts(free))
        progress.advance(rows=len(texts), done=len(texts))
        vectors += [_mean_image(embedder, query, seeds) for query in images]
        progress.advance(rows=len(images), done=len(images))
    columns = {
        name: [getattr(q, name) for q in asked] for name in ("class_id", "task", "class_name", "prompt", "modality")
    }
    table = pa.table({"query_id": range(len(asked)), **columns})
    table = table.append_column("embedding", as_vectors(np.concatenate([v.astype(np.float16) for v in vectors])))
    queries.commit(0, schema.conform(table, schema.queries(backbone.dim)), time.monotonic() - began)
    num_classes = max((q.class_id for q in asked), default=-1) + 1
    return queries.seal(QueriesFacts(backbone.describe(), backbone.dim, num_classes))


def _mean_image(embedder: Embedder, query: Query, seeds: dict[str, bytes]) -> np.ndarray:
    """Returns float16 [1, D], unit norm: the mean vector of a query's seed images. ConfigError if one is no image."""
    pixels, problems = embedder.decode([seeds[uri] for uri in query.parts])
    for uri, problem in zip(query.parts, problems, strict=True):
        if problem is not None:
            raise ConfigError(
                f"tasks.seed_images: {query.class_name!r}: {uri} cannot be decoded ({problem}); name another image"
            )
    mean_D = embedder.embed_images(pixels).astype(np.float64).mean(axis=0)
    return (mean_D / np.linalg.norm(mean_D))[None].astype(np.float16)
