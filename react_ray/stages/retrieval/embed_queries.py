"""ask: the recipe's tasks, free sentences and seed images -> `queries/`, embedded by the backbone of the database.

Next: clip/queries.py, then search.py.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import load_tasks
from react_ray.clip.queries import Query, make_queries
from react_ray.draft import create
from react_ray.errors import ConfigError
from react_ray.gated.load import load_backbone
from react_ray.kinds import QUERIES, QueriesFacts
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.storage import join, read_bytes
from react_ray.vectors import as_vectors


def queries_uri(recipe: Recipe, arm: str) -> str:
    """Arms that ask what the run asks share its queries; others have their own."""
    layout, wanted = Layout(recipe, arm), recipe.arm(arm)
    same = (wanted.tasks, wanted.retrieve.prompts) == (recipe.tasks, recipe.retrieve.prompts)
    return layout.of_run("queries") if same else join(layout.retrieved_root(), "queries")


def embed_queries(recipe: Recipe, uri: str) -> Artifact[QueriesFacts]:
    """One query per class and prompt (REACT's default), or one per class: the mean of its prompts."""
    tasks = load_tasks(recipe.tasks)
    averaged = recipe.retrieve.prompts == "averaged"
    asked = make_queries(recipe.tasks, averaged)
    seeds = {image: read_bytes(image) for query in asked if query.modality == "image" for image in query.parts}
    backbone = load_backbone(recipe.backbone, seed=recipe.seed)
    config = {
        "tasks": [[t.name, list(t.class_names), [list(s) for s in t.synonyms], list(t.templates)] for t in tasks],
        "sentences": recipe.tasks.queries,
        "seeds": [
            [q.class_name, [hashlib.sha256(seeds[i]).hexdigest() for i in q.parts]]
            for q in asked
            if q.modality == "image"
        ],
        "prompts": recipe.retrieve.prompts,
        "backbone": backbone.describe(),
    }
    queries = create(uri, QUERIES, config, {}, 1)
    if queries.sealed:
        return queries.open()
    began = time.monotonic()
    embedder = Embedder(backbone, recipe.embed.batch_size, "cpu")
    texts = [q for q in asked if q.modality == "text"]
    images = [q for q in asked if q.modality == "image"]
    with Progress("queries", len(asked), "queries", unit="queries") as progress:
        free = [q.prompt for q in texts]
        vectors = []
        if averaged:  # one query per class of every task; free sentences have no templates
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
    """float16 [1, D], unit norm. ConfigError if a seed is no image."""
    pixels, problems = embedder.decode([seeds[uri] for uri in query.parts])
    for uri, problem in zip(query.parts, problems, strict=True):
        if problem is not None:
            raise ConfigError(
                f"tasks.seed_images: {query.class_name!r}: {uri} cannot be decoded ({problem}); name another image"
            )
    mean_D = embedder.embed_images(pixels).astype(np.float64).mean(axis=0)
    return (mean_D / np.linalg.norm(mean_D))[None].astype(np.float16)
