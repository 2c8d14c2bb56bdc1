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

from react_ray.artifact import open_artifact
from react_ray.clip.backbone import Backbone
from react_ray.clip.config import RANDOM, BackboneConfig
from react_ray.clip.weights import official_state_dict, read_info, weights_bytes
from react_ray.errors import ConfigError
from react_ray.gated.card import json_bytes
from react_ray.gated.load import load_backbone
from react_ray.gated.portable import portable_config, portable_state_dict
from react_ray.gated.wise_ft import interpolate
from react_ray.kinds import MODEL, PREDICTIONS
from react_ray.manifest import MANIFEST
from react_ray.metadata import read_json
from react_ray.storage import join, local_file, open_storage

LAYOUTS = ("official", "open_clip")
GATED_FILE, CARD_FILE = "gated.safetensors", "model_card.json"
PREPROCESS = ("mean", "std", "interpolation", "resize_mode")


def export_model(uri: str, out: str, layout: str = "official", wise_ft: float = 1.0, dtype: str = "fp16") -> str:
    """Writes the model, and returns a line that says what was written and where.

    uri: the artifact `model`, or a gated.safetensors. out: a file for `official`, a folder for `open_clip`; local or
    s3://. wise_ft: 1 = the trained weights, 0 = the backbone's. dtype: fp16 as released, or fp32.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"export model --layout {layout}: no such layout; choose {' or '.join(LAYOUTS)}")
    if dtype not in ("fp16", "fp32"):
        raise ConfigError(f"export model --dtype {dtype}: choose fp16 or fp32")
    if layout == "official" and not out.endswith((".pt", ".safetensors")):
        raise ConfigError(f"export model --layout official writes one file, not {out}; end it with .pt or .safetensors")
    backbone = load_customised(uri, wise_ft)
    chosen = torch.float16 if dtype == "fp16" else torch.float32
    num_parameters = sum(p.numel() for p in backbone.model.parameters())
    card = _card(uri, wise_ft)
    if layout == "official":
        folder, _, name = out.rpartition("/")
        storage = open_storage(folder or ".")
        storage.write(name, _official(backbone, name, chosen))
        card_name = f"{name.rpartition('.')[0]}.model_card.json"
    else:
        storage, card_name = open_storage(out), "model_card.json"
        weights = weights_bytes(portable_state_dict(backbone.model), {"from": uri}, chosen)
        storage.write("open_clip_model.safetensors", weights)
        storage.write("open_clip_config.json", _config(backbone))
    if card:
        storage.write(card_name, json_bytes(card))
    return f"{out}: {num_parameters:,} parameters of {backbone.config.name}, {dtype}, wise_ft {wise_ft:g}"


def load_customised(uri: str, wise_ft: float = 1.0) -> Backbone:
    """The customised model on the backbone that its file names, or an interpolation between the two."""
    path = local_file(uri if uri.endswith(".safetensors") else join(uri, GATED_FILE))
    info = read_info(path)
    config = info.get("backbone_config")
    if config is None:
        raise ConfigError(
            f"{uri} does not say which backbone it was trained on; load it with create_model_and_transforms(base=...)"
        )
    base_config = BackboneConfig.model_validate(config)
    backbone = load_backbone(base_config.model_copy(update={"gated": path}))
    if wise_ft != 1:
        if base_config.pretrained == RANDOM and "seed" not in info:
            raise ConfigError(
                f"{uri} was trained on random weights of a seed that it does not say; leave wise_ft at 1, or run "
                "customize again"
            )
        interpolate(load_backbone(base_config, seed=info.get("seed", 0)).model, backbone.model, wise_ft)
    return backbone


def _card(uri: str, wise_ft: float) -> dict[str, Any]:
    """The card of the artifact `model`, with the scores of exactly these weights, taken while training or by
    `evaluate`.

    {} for a bare file.
    """
    storage = open_storage(uri)
    if uri.endswith(".safetensors") or not storage.exists(CARD_FILE):
        return {}
    card = read_json(storage, CARD_FILE, dict[str, Any], "delete it, and the export has no card") | {"wise_ft": wise_ft}
    while_training = card.get("scores", []) if wise_ft == 1 else []
    return card | {"scores": while_training + _evaluated(uri, wise_ft)}


def _evaluated(uri: str, wise_ft: float) -> list[dict[str, Any]]:
    """The scores by the run's `evaluate`, if it scored this model at this weight and not another interpolation."""
    scores = join(uri.rstrip("/").rpartition("/")[0], "scores")
    if not all(open_storage(place).exists(MANIFEST) for place in (uri, scores)):
        return []
    found = open_artifact(scores, PREDICTIONS)
    of_these = (
        found.manifest.config["wise_ft"] == wise_ft
        and found.manifest.parents["model"] == open_artifact(uri, MODEL).content
    )
    return found.facts.scores if of_these else []


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
