"""retrieve: class names x templates -> `queries/` -> `hits/` -> `retrieved/` and its `images/`.

Next: search.py, collect.py, then customize.py.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact, create
from react_ray.clip.backbone import load_backbone
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import load_tasks, prompts
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.stages import collect, search
from react_ray.stages.layout import Layout
from react_ray.storage import join
from react_ray.vectors import as_vectors


def run(recipe: Recipe, arm: str = "") -> Artifact:
    """Gives the sealed `retrieved` of one arm (the run's own, when the arm does not change retrieval)."""
    layout = Layout(recipe, arm)
    root = layout.retrieved_root()
    wanted = recipe.arm(arm)
    layout.open_database("embeddings", "embed")
    queries = embed_queries(wanted, layout.of_run("queries"))
    hits = None if wanted.retrieve.selection == "random" else search.run(wanted, join(root, "hits"), queries)
    return collect.run(wanted, root, queries, hits, main=recipe.out)


def embed_queries(recipe: Recipe, uri: str) -> Artifact:
    """One query per class and prompt (REACT's default), or one per class: the mean of its prompts."""
    tasks = load_tasks(recipe.tasks)
    backbone = load_backbone(recipe.backbone, seed=recipe.seed)
    config = {
        "tasks": [[t.name, list(t.class_names), list(t.templates)] for t in tasks],
        "prompts": recipe.retrieve.prompts,
        "backbone": backbone.describe(),
    }
    queries = create(uri, "queries", config, {}, 1)
    if queries.sealed:
        return queries
    began = time.monotonic()
    embedder = Embedder(backbone, recipe.embed.batch_size, "cpu")
    rows: list[dict[str, object]] = []
    texts: list[str] = []
    means = []
    with Progress("queries", len(tasks), "queries", unit="tasks") as progress:
        first_class = 0
        for task in tasks:
            if recipe.retrieve.prompts == "averaged":
                found = [(i, name, name) for i, name in enumerate(task.class_names)]
                means.append(embedder.zero_shot_classifier(task))
            else:
                found = [(p.class_id, p.class_name, p.prompt) for p in prompts(task)]
            for class_id, class_name, prompt in found:
                rows.append(
                    {
                        "query_id": len(rows),
                        "class_id": first_class + class_id,
                        "task": task.name,
                        "class_name": class_name,
                        "prompt": prompt,
                    }
                )
                texts.append(prompt)
            first_class += len(task.class_names)
            progress.advance(rows=len(found))
        vectors = np.concatenate(means).astype(np.float16) if means else embedder.embed_texts(texts)
    table = pa.Table.from_pylist(rows).append_column("embedding", as_vectors(vectors))
    queries.commit(0, schema.conform(table, schema.queries(backbone.dim)), time.monotonic() - began)
    return queries.seal(backbone=backbone.describe(), dim=backbone.dim, num_classes=first_class)
