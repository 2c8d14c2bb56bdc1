"""What customize asks of `retrieved/` before anything starts: do its vectors fit, what is in it, how classes weigh.

Takes sealed artifacts, gives plain values that workers get with their job. Next: train_worker.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.identity import same_image_tower, same_text_tower, short_name
from react_ray.errors import ArtifactMismatch
from react_ray.gated.card import LICENSE_COLUMNS, data_card
from react_ray.gated.config import CustomizeConfig, needs_caption_vectors, needs_text_tower
from react_ray.kinds import QUERIES
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.stages.retrieval.embed_queries import embed_queries, queries_uri
from react_ray.stages.retrieval.gather_pairs import class_vectors
from react_ray.training.step import class_weights


def with_captions(
    config: CustomizeConfig, retrieved: Artifact, backbone: dict[str, Any], has_vectors: bool = True
) -> CustomizeConfig:
    """`config` with live_text where a backbone that customize names has another text tower than the retrieved vectors, or there are none.

    ArtifactMismatch if stored vectors are needed, and are of another model than the one that is trained against them.
    """
    made_by = retrieved.facts.backbone
    same = same_text_tower(made_by, backbone)
    if config.backbone.name and not (same and has_vectors):
        config = config.model_copy(update={"live_text": True})
    if needs_caption_vectors(config) and not same:
        names = ("name", "tag", "dim", "text_sha256")
        differing = [name for name in names if made_by.get(name) != backbone.get(name)]
        shown = ", ".join(
            f"{name} {_short(made_by.get(name))} there, {_short(backbone.get(name))} here" for name in differing
        )
        raise ArtifactMismatch(
            f"the captions of {retrieved.uri} were embedded by another text tower ({shown}); set customize.live_text=true "
            "and extra_captions=0, or embed and retrieve with this backbone"
        )
    return config


def class_targets(recipe: Recipe, arm: str, backbone: dict[str, Any]) -> np.ndarray:
    """float32 [C, D], unit norm: the mean of each class's queries in the space of the model that is trained.

    Where another model asked, they are embedded once more, into `class_queries` of the arm.
    """
    asked, wanted = open_artifact(queries_uri(recipe, arm), QUERIES), recipe.arm(arm)
    asked_by = asked.facts.backbone
    if not same_text_tower(asked_by, backbone) or (
        wanted.tasks.seed_images and not same_image_tower(asked_by, backbone)
    ):
        asked = embed_queries(
            wanted.model_copy(update={"backbone": wanted.customized}), Layout(recipe, arm).of_arm("class_queries")
        )
    return class_vectors(asked)


def of_backbone(config: CustomizeConfig) -> str:
    """What is to be said of a backbone that customize names: where its captions' vectors come from; "" of the recipe's own."""
    if not config.backbone.name:
        return ""
    captions = (
        "its text tower runs in each step"
        if needs_text_tower(config)
        else "captions are the stored vectors, its text tower made them"
    )
    return f"customises {short_name(config.backbone)}: {captions}"


def data_facts(retrieved: Artifact | None, queries: str, config: CustomizeConfig, name: str) -> dict[str, Any]:
    """`class_weight_C` and `card` of a job."""
    if retrieved is None:
        return {"class_weight_C": None, "card": {"recipe": name}}
    names = _class_names(open_artifact(queries, QUERIES))
    first = retrieved.read(0)
    columns = ["class_id", *(set(LICENSE_COLUMNS) & set(first.column_names))]
    tables = [retrieved.read(part, columns) for part in range(retrieved.num_parts)]
    weights = None
    if config.class_weight_power:
        class_ids = pa.concat_tables(tables)["class_id"].fill_null(-1).to_numpy()
        weights = class_weights(class_ids, len(names), config.class_weight_power)
    card = data_card(tables, names, retrieved.content, name)
    return {"class_weight_C": weights, "card": card | {"retrieved_by": retrieved.facts.backbone}}


def _class_names(queries: Artifact) -> list[str]:
    """By class id; classes of several tasks are counted through."""
    names: dict[int, str] = {}
    for table in queries.tables(["class_id", "class_name"]):
        names |= dict(zip(table["class_id"].to_pylist(), table["class_name"].to_pylist(), strict=True))
    return [names.get(number, "") for number in range(max(names, default=-1) + 1)]


def _short(value: Any) -> str:
    return str(value)[:12]
