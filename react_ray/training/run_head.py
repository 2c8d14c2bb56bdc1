"""The linear head of a run (customize.method=linear), at the weight with which the run's table was scored.

Takes the URI of a run, gives the head as an array with its classes, or writes it as one file. The class of an image is
argmax(head @ vector), where the vector is the image's unit vector by the backbone, which a head leaves as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from react_ray.clip.weights import weights_bytes
from react_ray.errors import ConfigError
from react_ray.gated.card import json_bytes
from react_ray.gated.trained import TrainedModel, find_trained
from react_ray.metadata import read_json
from react_ray.storage import join, local_file, open_storage
from react_ray.training import linear_head
from react_ray.training.linear_head import HEAD_FILE

CARD_FILE = "model_card.json"


@dataclass(frozen=True)
class Head:
    vectors_CD: np.ndarray  # float32, unit rows
    classes: list[tuple[str, str]]  # (task, class name) of each row; the task is "" in files of an earlier version
    backbone: dict[str, Any]  # of the image vectors that it classifies, as Backbone.describe gives it


def load_head(run: str, arm: str = "", wise_ft: float | None = None) -> Head:
    """The head of a run, of one of its arms, or of an artifact `model`.

    wise_ft: 1 = as trained, 0 = the class prompts, None = the weight with which the run's table was scored.
    """
    return _head(find_trained(run, arm, wise_ft))


def export_head(found: TrainedModel, out: str) -> str:
    """Writes a .safetensors with the tensor `head` [C, D] in float32, its classes in the model card beside it, and
    returns a line that says what was written."""
    if not out.endswith(".safetensors"):
        raise ConfigError(
            f"export model: {found.uri} is a linear head, which is one tensor, not {out}; end it with .safetensors"
        )
    head = _head(found)
    folder, _, name = out.rpartition("/")
    storage = open_storage(folder or ".")
    info = {"method": "linear head", "backbone": head.backbone, "wise_ft": found.wise_ft, "classes": head.classes}
    storage.write(name, weights_bytes({"head": torch.from_numpy(head.vectors_CD)}, info))
    storage.write(f"{name.removesuffix('.safetensors')}.{CARD_FILE}", json_bytes(_card(found) | info))
    num_classes, dim = head.vectors_CD.shape
    on = head.backbone["name"]
    return f"{out}: linear head of {num_classes:,} classes on the {dim} dimensions of {on}, fp32; {found.told()}"


def _head(found: TrainedModel) -> Head:
    if not found.is_head:
        raise ConfigError(
            f"{found.uri} is a {found.model.facts.method} model, not a linear head; load it with "
            "react_ray.create_model_and_transforms"
        )
    vectors_CD, info = linear_head.load_head(local_file(join(found.uri, HEAD_FILE)), found.wise_ft)
    named = _card(found).get("data", {}).get("pairs_by_class", [])
    classes = info.get("classes") or [["", name] for name, _ in named]
    return Head(vectors_CD, [(task, name) for task, name in classes], found.model.facts.backbone)


def _card(found: TrainedModel) -> dict[str, Any]:
    """The model card, with the scores of exactly this weight."""
    if not found.model.storage.exists(CARD_FILE):
        return {}
    remedy = "delete it, and the export has no card"
    return read_json(found.model.storage, CARD_FILE, dict[str, Any], remedy) | {"scores": found.scores}
