"""Builds CLIP models without their weights: a name's layers, preprocessing and tokenizer.

A name is one that open_clip knows, `hf-hub:ORG/REPO`, or the URI of a JSON in the layout of open_clip_config.json. To
add a kind of backbone, start here.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from react_ray.clip.attention import use_self_attention
from react_ray.clip.config import BackboneConfig
from react_ray.clip.pretrained import HUB, hub_file, tag_config
from react_ray.errors import BackboneError
from react_ray.metadata import parse_json
from react_ray.storage import local_file


def architecture(config: BackboneConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (model config, preprocess config) as the name, the tag and the recipe define them."""
    name = config.name
    spec, given = _spec(name)
    given |= tag_config(name, config.pretrained)
    preprocess = asdict(PreprocessCfg())
    preprocess |= {k: v for k, v in given.items() if k in preprocess}
    preprocess |= {k: tuple(v) for k, v in (("mean", config.mean), ("std", config.std)) if v}
    preprocess["size"] = spec["vision_cfg"].get("image_size", 224)
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
    model = build(**{k: v for k, v in spec.items() if k not in ("custom_text", "_name")}, nonscalar_logit_scale=True)
    use_self_attention(model)
    return model


def empty_model(name: str) -> nn.Module:
    """Builds the model of a name on the meta device: shapes, no memory."""
    with torch.device("meta"):
        return build_model(_spec(name)[0])


def embedding_dim(name: str) -> int:
    """Returns the dimension of a model's vectors."""
    return int(_spec(name)[0]["embed_dim"])


def context_length(spec: dict[str, Any]) -> int:
    return int(spec["text_cfg"].get("context_length", 77))


def load_tokenizer(name: str, spec: dict[str, Any] | None = None) -> Callable[[list[str]], Tensor]:
    """Returns the tokenizer of a model name: texts -> int64 [N, context_length]. spec: its model config, if at hand."""
    spec = _spec(name)[0] if spec is None else spec
    text_cfg, length = spec["text_cfg"], context_length(spec)
    if name.endswith(".json") and not text_cfg.get("hf_tokenizer_name"):
        return open_clip.SimpleTokenizer(context_length=length, **text_cfg.get("tokenizer_kwargs", {}))
    if name.endswith(".json"):
        name = HUB + text_cfg["hf_tokenizer_name"]
    try:
        return open_clip.get_tokenizer(name, context_length=length)
    except Exception as error:
        raise BackboneError(
            f"backbone.name={name}: its tokenizer could not be loaded ({str(error).splitlines()[0]}); go online once, "
            "or choose a model with open_clip's own"
        ) from error


def _spec(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns copies of a name's (model config, preprocess config); the latter may be incomplete."""
    if name.startswith(HUB) or name.endswith(".json"):
        path = hub_file(name.removeprefix(HUB), "open_clip_config.json") if name.startswith(HUB) else local_file(name)
        file = parse_json(Path(path).read_bytes(), name, "write it as open_clip_config.json has it", BackboneError)
        file = file if isinstance(file, dict) else {}
        spec, given = file.get("model_cfg", {}), file.get("preprocess_cfg", {})
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= spec.keys():
            raise BackboneError(
                f"{name}: no model_cfg with embed_dim, vision_cfg, text_cfg; write one as open_clip_config.json has it"
            )
    else:
        spec, given = open_clip.get_model_config(name), {}
        if spec is None:
            near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.4) or ["ViT-B-32"]
            raise BackboneError(f"backbone.name={name}: open_clip has no such model; did you mean {' or '.join(near)}?")
    if "multimodal_cfg" in spec:
        raise BackboneError(f"backbone.name={name}: CoCa models are not supported; choose a CLIP such as ViT-B-32")
    return copy.deepcopy(spec), dict(given)
