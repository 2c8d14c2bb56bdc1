"""Makes the head of the methods that run no model (linear, cache, knn), of the image vectors of the retrieved pairs: on
the driver, in seconds.

Each task has classes of its own, and its head is made of the pairs that were retrieved for them. Next: head_file.py.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event, Lock
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from react_ray.artifact import Artifact
from react_ray.draft import Draft
from react_ray.errors import ConfigError
from react_ray.gated.card import json_bytes, model_card
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.trained import RECIPE_FILE
from react_ray.kinds import HeadFacts, ModelFacts, QueriesFacts, RetrievedFacts
from react_ray.progress import Progress
from react_ray.selection.soft_classes import soft_classes
from react_ray.stages.retrieval.gather_pairs import class_vectors
from react_ray.stages.training.image_vectors import ImageVectors
from react_ray.training.head_file import HEAD_FILE, head_bytes
from react_ray.training.labelled_share import copies
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.linear_head import train_head
from react_ray.vectors import from_vectors


def make_head(
    model: Draft[ModelFacts],
    retrieved: Artifact[RetrievedFacts],
    images: ImageVectors,
    queries: Artifact[QueriesFacts],
    config: CustomizeConfig,
    seed: int,
    info: dict[str, Any],
    facts: dict[str, Any],
    recipe_yaml: str,
    labelled: tuple[Artifact[RetrievedFacts], ImageVectors] | None = None,
) -> None:
    """Commits part 0 of `model`. info: the description that is stored in the file. facts: `class_weight_C` and
    `card`. labelled: the labelled images that train besides, as pairs (labelled_pairs.py), with their vectors."""
    began = time.monotonic()
    vectors, start_CD, classes = _vectors(retrieved, images, config), class_vectors(queries), _classes(queries)
    if labelled:
        vectors = _mixed(vectors, _vectors(*labelled, config), config.labelled_share)
    if config.method == "linear":
        arrays = {"head": trained(vectors, start_CD, classes, config, seed, facts["class_weight_C"]), "start": start_CD}
    else:
        arrays = {"keys": vectors.image_ND.astype(np.float16), "key_classes": vectors.class_id_NL.astype(np.int32)}
        arrays["key_weights"] = vectors.weight_NL
        arrays |= {"start": start_CD} if config.method == "cache" else {}
    commit_head(model, arrays, classes, config, info, facts["card"], recipe_yaml, began, len(vectors.image_ND))


def trained(
    vectors: LabelledVectors,
    start_CD: np.ndarray,
    classes: list[tuple[str, str]],
    config: CustomizeConfig,
    seed: int,
    class_weight_C: np.ndarray | None = None,
    steps: int = 0,
) -> np.ndarray:
    """float32 [C, D]: the linear head of each task. A task without pairs keeps its prompts. steps: as in `train_head`.

    Tasks train side by side, each in a thread of its own, which is sooner than one after the other in all threads.
    """
    head_CD = start_CD.copy()
    names = [task for task, _ in classes]
    tasks = list(dict.fromkeys(names))
    at_once = max(1, min(torch.get_num_threads(), len(tasks)))
    threads_of_each, lock, stop = torch.get_num_threads() // at_once, Lock(), Event()
    with Progress("head", len(tasks), "pairs", unit="tasks") as progress:

        def train(task: str) -> None:
            rows = slice(names.index(task), names.index(task) + names.count(task))
            own = vectors.of_task(rows.start, rows.stop)

            def show(step: int, steps: int, loss: float) -> None:
                if stop.is_set():
                    raise InterruptedError("another task failed, or the user stops")
                with lock:
                    progress.advance(config.batch_size, done=0, note=f"{task} {step}/{steps} steps, loss {loss:.3f}")

            if len(own.image_ND):
                weight_C = None if class_weight_C is None else class_weight_C[rows]
                head_CD[rows] = train_head(own, start_CD[rows], config, seed, weight_C, show, steps)
            with lock:
                progress.advance()

        with ThreadPoolExecutor(at_once, "head", torch.set_num_threads, (threads_of_each,)) as pool:
            try:
                for ended in as_completed([pool.submit(train, task) for task in tasks]):
                    ended.result()
            except BaseException:  # the pool waits for its threads: let their next step be the last
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    return head_CD


def commit_head(
    draft: Draft[ModelFacts] | Draft[HeadFacts],
    arrays: dict[str, np.ndarray],
    classes: list[tuple[str, str]],
    config: CustomizeConfig,
    info: dict[str, Any],
    data: dict[str, Any],
    recipe_yaml: str,
    began: float,
    num_pairs: int,
) -> None:
    """Commits the head, its description, its recipe and its card as part 0. data: the card's part on the pairs."""
    files = {
        HEAD_FILE: head_bytes(arrays, classes, config, info),
        "head.json": json_bytes(info | {"classes": classes}),
        RECIPE_FILE: recipe_yaml.encode(),
        "model_card.json": json_bytes(model_card(info, data)),
    }
    draft.commit_files(0, files, time.monotonic() - began, num_pairs)


def _mixed(vectors: LabelledVectors, labelled: LabelledVectors, share: float) -> LabelledVectors:
    """The vectors of an epoch, of which the labelled ones are `share`, as in MixedRows."""
    if share == 1:
        vectors = vectors.rows(slice(0, 0))
    return vectors.with_others(labelled, copies(labelled.class_id_NL[:, 0], len(vectors.image_ND), share))


def _vectors(retrieved: Artifact[RetrievedFacts], images: ImageVectors, config: CustomizeConfig) -> LabelledVectors:
    """Of the pairs that have an image vector and a class."""
    vectors, class_ids = [], []
    matched: list[list[tuple[int, float]]] = []
    for part in range(retrieved.num_parts):
        table = retrieved.read(part, ["pair_id", "class_id", "matches"])
        found = images.of_part(part, table["pair_id"].to_numpy())
        class_id_N = table["class_id"].fill_null(-1).to_numpy()
        good = np.asarray(found.is_valid()) & (class_id_N >= 0)
        vectors.append(from_vectors(found.filter(pa.array(good))))
        class_ids.append(class_id_N[good])
        matched += soft_classes(table["class_id"], table["matches"]).filter(pa.array(good)).to_pylist()
    if not sum(map(len, vectors)):
        raise ConfigError(
            f"customize.method={config.method}: no retrieved pair has both a class and an image that can be embedded; "
            "retrieve more, or fetch their images"
        )
    return LabelledVectors.of_matched(np.concatenate(vectors), np.concatenate(class_ids), matched)


def _classes(queries: Artifact[QueriesFacts]) -> list[tuple[str, str]]:
    """(task, class name), by class id."""
    found: dict[int, tuple[str, str]] = {}
    for table in queries.tables(["task", "class_id", "class_name"]):
        rows = zip(*(table[name].to_pylist() for name in ("class_id", "task", "class_name")), strict=True)
        found |= {class_id: (task, name) for class_id, task, name in rows}
    return [found.get(number, ("", "")) for number in range(max(found, default=-1) + 1)]
