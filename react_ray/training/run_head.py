"""The head of a run, at the weight with which the run's table was scored: a classifier of the recipe's classes.

Takes the URI of a run, gives the head with its classes, or writes it as one file. A head comes from a method on stored
vectors (linear, cache, knn), whose backbone stays as it is, or from the second stage of another method, under the arm's
name with `+head` behind it. Next: head_file.py.
"""

from __future__ import annotations

from typing import Any

import torch

from react_ray.clip.weights import weights_bytes
from react_ray.errors import ConfigError
from react_ray.gated.card import json_bytes
from react_ray.gated.config import OF_HEAD
from react_ray.gated.export import export_model
from react_ray.gated.trained import TrainedModel, find_trained
from react_ray.metadata import read_json
from react_ray.storage import join, local_file, open_storage
from react_ray.training.head_file import HEAD_FILE, Head, read_head

CARD_FILE = "model_card.json"


def load_head(run: str, arm: str = "", wise_ft: float | None = None) -> Head:
    """The head of a run, of one of its arms ("gated_image+head" for a second stage), or of an artifact `model`.

    wise_ft: 1 = as trained, 0 = the class prompts, None = the weight with which the run's table was scored.
    """
    return _head(find_trained(run, arm, wise_ft))


def export_head(found: TrainedModel, out: str, layout: str = "official", dtype: str = "fp16") -> str:
    """Writes the head, and for a second stage its model too; returns lines that say what was written.

    out: a .safetensors for a head on stored vectors. For a second stage, as `export_model` takes it; the head lies
    beside the model's file as NAME.head.safetensors, or in the folder as head.safetensors. The classes are in the model
    card beside the head.
    """
    if found.is_head:
        if not out.endswith(".safetensors"):
            raise ConfigError(
                f"export model: {found.uri} is a head ({found.method}), not a model for {out}; end it with .safetensors"
            )
        return _write(found, out)
    said = export_model(found.uri, out, layout, 1.0, dtype)
    beside = f"{out.rpartition('.')[0]}.{HEAD_FILE}" if layout == "official" else join(out, HEAD_FILE)
    return f"{said}\n{_write(found, beside)}"


def _write(found: TrainedModel, out: str) -> str:
    head = _head(found)
    folder, _, name = out.rpartition("/")
    storage = open_storage(folder or ".")
    about = {"method": found.method, "backbone": found.model.facts.backbone, "wise_ft": found.wise_ft}
    about |= {"classes": head.classes, "settings": head.settings, "kind": head.kind}
    tensors = {"head": torch.from_numpy(head.vectors_CD)} if head.kind == "linear" else head.tensors
    storage.write(name, weights_bytes(tensors, about))
    storage.write(f"{name.removesuffix('.safetensors')}.{CARD_FILE}", json_bytes(_card(found) | about))
    dim = int(next(tensor.shape[1] for key, tensor in sorted(tensors.items()) if key in ("head", "keys")))
    on = found.model.facts.backbone["name"]
    return (
        f"{out}: {found.method} of {len(head.classes):,} fixed classes on the {dim} dimensions of {on}, fp32; "
        f"{found.told()}"
    )


def _head(found: TrainedModel) -> Head:
    if found.head is None:
        raise ConfigError(
            f"{found.uri} is a {found.method} model, which has no head; load it with "
            f"react_ray.create_model_and_transforms, or name {found.arm}{OF_HEAD} once it has a second stage "
            "(customize.head)"
        )
    return read_head(local_file(join(found.head.uri, HEAD_FILE)), found.wise_ft)


def _card(found: TrainedModel) -> dict[str, Any]:
    """The model card, with the scores of exactly this weight."""
    assert found.head is not None
    if not found.head.storage.exists(CARD_FILE):
        return {}
    remedy = "delete it, and the export has no card"
    return read_json(found.head.storage, CARD_FILE, dict[str, Any], remedy) | {"scores": found.scores}
