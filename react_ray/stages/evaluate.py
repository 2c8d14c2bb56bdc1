"""evaluate: a model on labelled images -> `scores/`: one row of predictions per image, then the table over them.

The base is evaluated once per run, each arm's model once. Next: evals/zeroshot.py, then report.py.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from react_ray.artifact import Artifact, Receipt, create, open_artifact
from react_ray.clip.backbone import BackboneConfig, load_backbone
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask, load_tasks
from react_ray.evals.zeroshot import check_labels, predict, summarise
from react_ray.pairs.image import decode_batch
from react_ray.recipe import Recipe
from react_ray.stages.cluster import actor_pool
from react_ray.stages.layout import Layout
from react_ray.stages.run_parts import Work, run_parts
from react_ray.storage import join, open_parquet

BASE = "base"
IMAGES_PER_PART = 1024


def run(recipe: Recipe, arm: str = BASE) -> Artifact:
    """Gives the sealed `predictions` of the base, or of one arm's model."""
    layout = Layout(recipe, "" if arm == BASE else arm)
    backbone, parents = recipe.backbone, {}
    uri = layout.of_run("scores/base")
    if arm != BASE:
        model = open_artifact(layout.of_arm("model"), "model", "customize")
        parents, uri = {"model": model}, layout.of_arm("scores")
        backbone = backbone.model_copy(update={"gated": join(model.uri, "gated.safetensors")})
    tasks = load_tasks(recipe.tasks)
    parts = []
    for name, source in recipe.evaluate.datasets.items():
        file = open_parquet(source)
        labels = file.read(["task", "label"])
        check_labels(labels, {t.name: list(t.class_names) for t in tasks}, name)
        parts += [(name, source, start) for start in range(0, labels.num_rows, IMAGES_PER_PART)]
    described = load_backbone(backbone, seed=recipe.seed).describe()
    config = recipe.evaluate.digested() | {
        "backbone": described,
        "tasks": [[t.name, list(t.class_names), list(t.templates)] for t in tasks],
    }
    scores = create(uri, "predictions", config, parents, len(parts))
    if scores.sealed:
        return scores
    run_parts(
        f"evaluate {arm}".strip(),
        scores.pending(),
        len(parts),
        _Read(parts, [t.name for t in tasks]),
        Classify,
        (backbone, recipe, tasks, scores),
        recipe.cluster.part_retries,
        "images",
        options=actor_pool(recipe.cluster, "embed"),
    )
    table = pa.concat_tables(scores.tables())
    rows = [
        {"dataset": d, "task": t, "metric": m, "value": v, "num_images": n, "model": arm or "customized", "seed": recipe.seed}
        for d, t, m, v, n in summarise(table)
    ]
    return scores.seal(scores=rows, backbone=described)


class _Read:
    def __init__(self, parts: list[tuple[str, str, int]], tasks: list[str]) -> None:
        self.parts, self.tasks = parts, pa.array(tasks)

    def __call__(self, part: int) -> pa.Table:
        name, source, start = self.parts[part]
        table = open_parquet(source).read(["image", "task", "label"]).slice(start, IMAGES_PER_PART)
        table = table.append_column("row", pa.array(range(start, start + table.num_rows), pa.int32()))
        table = table.append_column("dataset", pa.array([name] * table.num_rows))
        return table.filter(pc.is_in(table["task"], self.tasks))


class Classify(Work):
    def __init__(self, backbone: BackboneConfig, recipe: Recipe, tasks: list[TargetTask], scores: Artifact) -> None:
        torch.set_num_threads(recipe.cluster.threads_per_actor)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.backbone = load_backbone(backbone, device=device, seed=recipe.seed)
        self.embedder = Embedder(self.backbone, recipe.evaluate.batch_size, device)
        self.tasks = {task.name: task for task in tasks}
        self.classifiers: dict[str, np.ndarray] = {}
        self.num_threads, self.scores = recipe.cluster.threads_per_actor, scores

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        pixels, problems = decode_batch(table["image"].to_pylist(), self.backbone.image_size, self.num_threads)
        good = np.array([problem is None for problem in problems], bool)
        image_ND = np.full((table.num_rows, self.backbone.dim), np.nan, np.float32)
        image_ND[good] = self.embedder.embed_images(pixels[good])
        tasks = np.array(table["task"].to_pylist(), dtype=object)
        found = [self._predict(name, image_ND, table, np.flatnonzero(tasks == name)) for name in self.tasks]
        out = pa.concat_tables(found).sort_by("row")
        return self.scores.commit(part, out, time.monotonic() - began)

    def _predict(self, name: str, image_ND: np.ndarray, table: pa.Table, rows: np.ndarray) -> pa.Table:
        if name not in self.classifiers:
            self.classifiers[name] = self.embedder.zero_shot_classifier(self.tasks[name])
        here = table.take(pa.array(rows))
        dataset = table["dataset"][0].as_py()
        labels, numbers = here["label"].to_pylist(), here["row"].to_numpy()
        return predict(
            image_ND[rows], self.classifiers[name], list(self.tasks[name].class_names), labels, dataset, name, numbers
        )
