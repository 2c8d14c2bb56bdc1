"""Trains a linear head (customize.method=linear) on the stored vectors of the retrieved pairs: on the driver, in
seconds.

Each task has classes of its own, and its head is trained on the pairs that were retrieved for them.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.draft import Draft
from react_ray.errors import ConfigError
from react_ray.gated.card import json_bytes, model_card
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.trained import RECIPE_FILE
from react_ray.kinds import EmbeddingsFacts, ModelFacts, QueriesFacts, RetrievedFacts
from react_ray.progress import Progress
from react_ray.search.gather import gather
from react_ray.stages.retrieval.gather_pairs import class_vectors
from react_ray.training.linear_head import HEAD_FILE, head_bytes, train_head
from react_ray.vectors import from_vectors


def train_linear(
    model: Draft[ModelFacts],
    retrieved: Artifact[RetrievedFacts],
    embeddings: Artifact[EmbeddingsFacts],
    queries: Artifact[QueriesFacts],
    config: CustomizeConfig,
    seed: int,
    info: dict[str, Any],
    facts: dict[str, Any],
    recipe_yaml: str,
) -> None:
    """Commits part 0 of `model`. info: the description that is stored in the file. facts: `class_weight_C` and
    `card`."""
    began = time.monotonic()
    image_ND, class_id_N = _vectors(retrieved, embeddings)
    start_CD, weight_C = class_vectors(queries), facts["class_weight_C"]
    head_CD = start_CD.copy()
    for task, first, last in _tasks(queries):
        rows = (class_id_N >= first) & (class_id_N < last)
        if not rows.any():
            continue
        classes = slice(first, last)
        with Progress(f"head {task}", 0, "pairs", unit="steps") as progress:

            def show(step: int, steps: int, loss: float, progress: Progress = progress) -> None:
                progress.total = steps
                progress.advance(config.batch_size, note=f"loss {loss:.3f}")

            head_CD[classes] = train_head(
                image_ND[rows],
                class_id_N[rows] - first,
                start_CD[classes],
                config,
                seed,
                None if weight_C is None else weight_C[classes],
                show,
            )
    info = info | {"classes": _classes(queries)}
    files = {
        HEAD_FILE: head_bytes(head_CD, start_CD, info),
        "head.json": json_bytes(info),
        RECIPE_FILE: recipe_yaml.encode(),
        "model_card.json": json_bytes(model_card(info, facts["card"])),
    }
    model.commit_files(0, files, time.monotonic() - began, len(image_ND))


def _vectors(
    retrieved: Artifact[RetrievedFacts], embeddings: Artifact[EmbeddingsFacts]
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float16 [N, D] and class ids int32 [N] of the pairs that have an image vector and a class."""
    vectors, class_ids = [], []
    for part in range(retrieved.num_parts):
        table = retrieved.read(part, ["pair_id", "class_id"])
        found = gather(embeddings, table["pair_id"].to_numpy(), ["pair_id", "image"])["image"]
        class_id_N = table["class_id"].fill_null(-1).to_numpy()
        good = np.asarray(found.is_valid()) & (class_id_N >= 0)
        vectors.append(from_vectors(found.filter(pa.array(good))))
        class_ids.append(class_id_N[good])
    if not sum(map(len, vectors)):
        raise ConfigError(
            "customize.method=linear trains on stored image vectors, and there are none; set embed.images=true and "
            "embed again"
        )
    return np.concatenate(vectors), np.concatenate(class_ids)


def _tasks(queries: Artifact[QueriesFacts]) -> list[tuple[str, int, int]]:
    """(task, its first class id, the id after its last), in the order of the queries."""
    ranges: dict[str, tuple[int, int]] = {}
    for table in queries.tables(["task", "class_id"]):
        for task, class_id in zip(table["task"].to_pylist(), table["class_id"].to_pylist(), strict=True):
            first, last = ranges.get(task, (class_id, class_id + 1))
            ranges[task] = (min(first, class_id), max(last, class_id + 1))
    return [(task, first, last) for task, (first, last) in ranges.items()]


def _classes(queries: Artifact[QueriesFacts]) -> list[list[str]]:
    """[task, class name] of each row of the head."""
    found: dict[int, list[str]] = {}
    for table in queries.tables(["task", "class_id", "class_name"]):
        rows = zip(*(table[name].to_pylist() for name in ("class_id", "task", "class_name")), strict=True)
        found |= {class_id: [task, name] for class_id, task, name in rows}
    return [found.get(number, ["", ""]) for number in range(max(found, default=-1) + 1)]
