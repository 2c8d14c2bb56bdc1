"""Reads class targets, class weights and the data's part of the model card from sealed artifacts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.identity import same_image_tower, same_text_tower
from react_ray.gated.card import LICENSE_COLUMNS, data_card
from react_ray.gated.config import CustomizeConfig
from react_ray.kinds import QUERIES, QueriesFacts, RetrievedFacts
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.selection.hit_columns import first_of_name
from react_ray.stages.retrieval.embed_queries import embed_queries, queries_uri
from react_ray.stages.retrieval.gather_pairs import class_vectors
from react_ray.training.class_loss import ClassTargets
from react_ray.training.step import class_weights


def class_targets(recipe: Recipe, arm: str, backbone: dict[str, Any]) -> ClassTargets:
    """The classes of all queries, with vectors in the space of the model that is trained.

    Free sentences, and classes of seed images alone, are tasks of their own. Of classes that share their task and name,
    the first one stands for all, as it does in retrieval. Where another model embedded the queries, they are embedded
    once more, into the arm's `class_queries`.
    """
    asked, wanted = open_artifact(queries_uri(recipe, arm), QUERIES), recipe.arm(arm)
    asked_by = asked.facts.backbone
    if not same_text_tower(asked_by, backbone) or (
        wanted.tasks.seed_images and not same_image_tower(asked_by, backbone)
    ):
        place, batch_size = Layout(recipe, arm).of_arm("class_queries"), wanted.embed.batch_size
        asked = embed_queries(place, wanted.tasks, wanted.retrieve.prompts, wanted.customized, batch_size, wanted.seed)
    return ClassTargets(class_vectors(asked), tasks_of_classes(asked))


def data_facts(
    retrieved: Artifact[RetrievedFacts] | None,
    queries: str,
    config: CustomizeConfig,
    name: str,
    labelled_N: np.ndarray | None = None,
) -> dict[str, Any]:
    """The fields `class_weight_C` and `card` of a Job. retrieved: None for a training on the source. queries: URI.

    labelled_N: int, the class ids of labelled images, as often as they train.
    """
    if retrieved is None:
        return {"class_weight_C": None, "card": {"recipe": name}}
    names = _class_names(open_artifact(queries, QUERIES))
    first = retrieved.read(0)
    columns = ["class_id", *(set(LICENSE_COLUMNS) & set(first.column_names))]
    tables = [retrieved.read(part, columns) for part in range(retrieved.num_parts)]
    weights = None
    if config.class_weight_power:
        class_ids = pa.concat_tables(tables)["class_id"].fill_null(-1).to_numpy()
        if labelled_N is not None:
            class_ids = np.concatenate([*[class_ids] * (config.labelled_share < 1), labelled_N])
        weights = class_weights(class_ids, len(names), config.class_weight_power)
    card = data_card(tables, names, retrieved.content, name)
    return {"class_weight_C": weights, "card": card | {"retrieved_by": retrieved.facts.backbone}}


def tasks_of_classes(queries: Artifact[QueriesFacts]) -> np.ndarray:
    """int64 [C]: the number of each class's task, -1 = another class of the task has the name."""
    table = pa.concat_tables(queries.tables(["class_id", "task", "class_name"]))
    class_id, first = table["class_id"].to_numpy(), first_of_name(table)
    task_C = np.full(queries.facts.num_classes, -1, np.int64)
    of_task = table["task"].combine_chunks().dictionary_encode().indices.to_numpy()
    task_C[class_id] = np.where(first == class_id, of_task, -1)
    return task_C


def _class_names(queries: Artifact[QueriesFacts]) -> list[str]:
    """By class id; the ids count through the classes of all tasks."""
    names: dict[int, str] = {}
    for table in queries.tables(["class_id", "class_name"]):
        names |= dict(zip(table["class_id"].to_pylist(), table["class_name"].to_pylist(), strict=True))
    return [names.get(number, "") for number in range(max(names, default=-1) + 1)]
