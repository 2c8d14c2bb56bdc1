"""Builds CLIP models without their weights: a name's layers, preprocessing and tokenizer.

A name is one that open_clip knows, `hf-hub:ORG/REPO`, or the URI of a folder with an open_clip_config.json, or that of
such a JSON (model_folder.py). To add a kind of backbone, start here.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from torch import Tensor, nn

from react_ray.clip.attention import use_self_attention
from react_ray.clip.config import RANDOM, BackboneConfig
from react_ray.clip.identity import CONFIG_FILE
from react_ray.clip.model_folder import find_config, find_folder, read_config, tokenizer_folder
from react_ray.clip.pretrained import HUB, hub_file, is_built_in, tag_config
from react_ray.errors import BackboneError
from react_ray.storage import local_file

RESIZE_MODES, INTERPOLATIONS = ("shortest", "squash", "longest"), ("bicubic", "bilinear", "random")


def settled(config: BackboneConfig) -> BackboneConfig:
    """Returns the same model with `name` alone, if `pretrained` names a whole model: a folder with its own JSON.

    Its JSON then decides on layers, activation and preprocessing, as if the folder were the name. Raises BackboneError
    if the recipe names another model besides.
    """
    model = config.pretrained
    if model in ("", RANDOM) or tag_config(config.name, model) or not (model.startswith(HUB) or find_config(model)):
        return config
    if config.name not in (BackboneConfig().name, model) and _shapes(config.name) != _shapes(model):
        raise BackboneError(
            f"backbone.name={config.name} is another model than that in backbone.pretrained={model}; leave the name out"
        )
    return config.model_copy(update={"name": model, "pretrained": ""})


def architecture(config: BackboneConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (model config, preprocess config) as the name, the tag and the recipe define them."""
    name = config.name
    spec, given = _spec(name)
    given |= tag_config(name, config.pretrained)
    preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), given)
    preprocess |= {key: _three(name, key, getattr(config, key) or preprocess[key]) for key in ("mean", "std")}
    preprocess["size"] = spec["vision_cfg"].get("image_size", 224)
    if preprocess["resize_mode"] not in RESIZE_MODES or preprocess["interpolation"] not in INTERPOLATIONS:
        raise BackboneError(
            f"backbone.name={name}: its preprocess_cfg has resize_mode={preprocess['resize_mode']} and interpolation="
            f"{preprocess['interpolation']}; choose from {', '.join(RESIZE_MODES)} and {', '.join(INTERPOLATIONS)}"
        )
    if preprocess["resize_mode"] == "longest":
        raise BackboneError(
            f"backbone.name={name}: it pads its images (resize_mode=longest); choose a model that crops or squashes"
        )
    # The tag knows with which activation its weights were trained, whatever the name says.
    spec["quick_gelu"] = bool(config.quick_gelu or spec.get("quick_gelu") or given.get("quick_gelu"))
    if "timm_model_name" in spec["vision_cfg"]:
        spec["vision_cfg"]["timm_model_pretrained"] = False
    if "hf_model_name" in spec["text_cfg"]:
        spec["text_cfg"]["hf_model_pretrained"] = False
    return spec, preprocess


def build_model(spec: dict[str, Any]) -> Any:
    """Builds the model of a model config, its weights drawn from torch's global generator."""
    has_own_text_tower = bool(spec.get("custom_text")) or "hf_model_name" in spec["text_cfg"]
    build = open_clip.CustomTextCLIP if has_own_text_tower else open_clip.CLIP
    values = {k: v for k, v in spec.items() if k not in ("custom_text", "_name")}
    try:
        model = build(**values, nonscalar_logit_scale=True)
    except Exception as error:  # whatever open_clip, timm or transformers raise for a config that they cannot build
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackboneError(f"open_clip cannot build this model_cfg ({reason}); correct {CONFIG_FILE}") from error
    use_self_attention(model)
    return model


def empty_model(name: str) -> nn.Module:
    """Builds the model of a name on the meta device: shapes, no memory."""
    with torch.device("meta"):
        return build_model(_spec(name)[0])


def image_numbers(config: BackboneConfig) -> int:
    """Returns the numbers of one decoded image: its channels and pixels."""
    side = architecture(settled(config))[1]["size"]
    height, width = (side, side) if isinstance(side, int) else side
    return 3 * height * width


def num_parameters(config: BackboneConfig) -> int:
    return sum(p.numel() for p in empty_model(settled(config).name).parameters())


def embedding_dim(config: BackboneConfig) -> int:
    """Returns the dimension of a model's vectors."""
    return int(_spec(settled(config).name)[0]["embed_dim"])


def context_length(spec: dict[str, Any]) -> int:
    return int(spec["text_cfg"].get("context_length", 77))


def load_tokenizer(name: str, spec: dict[str, Any] | None = None) -> Callable[[list[str]], Tensor]:
    """Returns the tokenizer of a model name: texts -> int64 [N, context_length]. spec: its model config, if at hand."""
    spec = _spec(name)[0] if spec is None else spec
    text_cfg, length = spec["text_cfg"], context_length(spec)
    more = text_cfg.get("tokenizer_kwargs") or {}
    try:
        if name.startswith(HUB) or is_built_in(name):
            return open_clip.get_tokenizer(name, context_length=length)
        if not text_cfg.get("hf_tokenizer_name"):
            return open_clip.SimpleTokenizer(context_length=length, **more)
        source = tokenizer_folder(find_config(name)) or text_cfg["hf_tokenizer_name"]
        return open_clip.HFTokenizer(source, length, tokenizer_mode=text_cfg.get("tokenizer_mode"), **more)
    except Exception as error:
        raise BackboneError(
            f"backbone.name={name}: its tokenizer could not be loaded ({str(error).splitlines()[0]}); go online once, "
            "or choose a model with open_clip's own"
        ) from error


def _spec(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns copies of a name's (model config, preprocess config); the latter may be incomplete."""
    if name.startswith(HUB):
        spec, given = read_config(hub_file(name.removeprefix(HUB), CONFIG_FILE), name)
    elif is_built_in(name):
        spec, given = open_clip.get_model_config(name), {}
    elif uri := find_config(name):
        spec, given = read_config(local_file(uri), name)
    elif find_folder(name):
        raise BackboneError(
            f"backbone.name={name}: there is no {CONFIG_FILE} in this folder; if open_clip knows the model, set its "
            "name, and the folder as backbone.pretrained"
        )
    elif name.startswith((".", "/", "~")) or ":" in name:
        raise BackboneError(f"backbone.name={name}: there is no such folder; name one that holds {CONFIG_FILE}")
    else:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.4) or ["ViT-B-32"]
        raise BackboneError(f"backbone.name={name}: open_clip has no such model; did you mean {' or '.join(near)}?")
    if "multimodal_cfg" in spec:
        raise BackboneError(f"backbone.name={name}: CoCa models are not supported; choose a CLIP such as ViT-B-32")
    return copy.deepcopy(spec), dict(given)


def _shapes(name: str) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in empty_model(name).state_dict().items()}


def _three(name: str, key: str, value: Any) -> tuple[float, ...]:
    """Returns a mean or a standard deviation of three channels; a single number holds for all, as in open_clip."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    if (
        len(values) != 3
        or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values)
        or (key == "std" and min(values) <= 0)
    ):
        raise BackboneError(f"backbone.name={name}: its {key} is {value}; give one number for each of three channels")
    return tuple(values)
