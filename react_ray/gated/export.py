"""Exports a customised model: one file in the layout of the released checkpoints, or a folder that open_clip loads.

`official` is the whole state dict, as .pt or .safetensors. `open_clip` is open_clip_config.json and
open_clip_model.safetensors of an ordinary ViT, for `open_clip.create_model_and_transforms("local-dir:FOLDER")`. The
model card lies beside it, with the scores that the run found for these weights.
"""

from __future__ import annotations

import io
import json
from typing import Any

import torch

from react_ray.clip.backbone import Backbone
from react_ray.clip.weights import official_state_dict, weights_bytes
from react_ray.errors import ConfigError
from react_ray.gated.card import json_bytes
from react_ray.gated.load import load_customised
from react_ray.gated.portable import portable_config, portable_state_dict
from react_ray.gated.trained import TrainedModel, find_trained
from react_ray.metadata import read_json
from react_ray.storage import open_storage

LAYOUTS = ("official", "open_clip")
DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
CARD_FILE = "model_card.json"
AS_TRAINED = "as it was trained, since one file does not say how it was scored"
PREPROCESS = ("mean", "std", "interpolation", "resize_mode")


def export_model(
    uri: str, out: str, layout: str = "official", wise_ft: float | None = None, dtype: str = "fp16", arm: str = ""
) -> str:
    """Writes the model, and returns a line that says what was written and where.

    uri: a run, an artifact `model`, or a gated.safetensors. arm: which model of a run that has several. out: a file for
    `official`, a folder for `open_clip`; local or s3://. wise_ft: 1 = the trained weights, 0 = the backbone's, None =
    the weight with which the run's table was scored, and 1 for a bare file. dtype: fp16 as released, or fp32.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"export model --layout {layout}: no such layout; choose {' or '.join(LAYOUTS)}")
    if dtype not in DTYPES:
        raise ConfigError(f"export model --dtype {dtype}: choose fp16 or fp32")
    if layout == "official" and not out.endswith((".pt", ".safetensors")):
        raise ConfigError(f"export model --layout official writes one file, not {out}; end it with .pt or .safetensors")
    found = None if uri.endswith(".safetensors") else find_trained(uri, arm, wise_ft)
    weight = found.tower_wise_ft if found else 1.0 if wise_ft is None else wise_ft
    backbone = load_customised(found.uri if found else uri, weight)
    num_parameters = sum(p.numel() for p in backbone.model.parameters())
    card = _card(weight, found)
    if layout == "official":
        folder, _, name = out.rpartition("/")
        storage = open_storage(folder or ".")
        storage.write(name, _official(backbone, name, DTYPES[dtype]))
        card_name = f"{name.rpartition('.')[0]}.model_card.json"
    else:
        storage, card_name = open_storage(out), CARD_FILE
        weights = weights_bytes(portable_state_dict(backbone.model), {"from": uri}, DTYPES[dtype])
        storage.write("open_clip_model.safetensors", weights)
        storage.write("open_clip_config.json", _config(backbone))
    if card:
        storage.write(card_name, json_bytes(card))
    told = found.told() if found else f"WiSE-FT weight {weight:g}, {AS_TRAINED if wise_ft is None else 'as you chose'}"
    return f"{out}: {num_parameters:,} parameters of {backbone.config.name}, {dtype}; {told}"


def _card(weight: float, found: TrainedModel | None) -> dict[str, Any]:
    """The card of the artifact `model`, with the scores of exactly these weights, taken while training or by
    `evaluate`.

    found: None for a bare file, which has no card: {}.
    """
    if found is None or not found.model.storage.exists(CARD_FILE):
        return {}
    remedy = "delete it, and the export has no card"
    card = read_json(found.model.storage, CARD_FILE, dict[str, Any], remedy) | {"wise_ft": weight}
    while_training = card.get("scores", []) if weight == 1 else []
    return card | {"scores": while_training + found.scores}


def _official(backbone: Backbone, name: str, dtype: torch.dtype) -> bytes:
    state = official_state_dict(backbone.model)
    if name.endswith(".safetensors"):
        return weights_bytes(state, {}, dtype)
    buffer = io.BytesIO()
    torch.save({key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}, buffer)
    return buffer.getvalue()


def _config(backbone: Backbone) -> bytes:
    preprocess: dict[str, Any] = {name: backbone.preprocess[name] for name in PREPROCESS}
    values = {"model_cfg": portable_config(backbone.model, backbone.model_cfg), "preprocess_cfg": preprocess}
    return (json.dumps(values, indent=1) + "\n").encode()
