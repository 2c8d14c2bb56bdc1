"""Creates REACT models by name, in open_clip's conventions: the released models, and those that were customised here.

A name is `react_ViT-B-32`, for example, or any name of open_clip, with a tag or a file as `pretrained`. The folder of a
run stands for the model that its table scored. The released weights are at huggingface.co/react-vl/react-in1k.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from react_ray.clip.architecture import load_tokenizer
from react_ray.clip.backbone import Backbone, transforms
from react_ray.clip.config import RANDOM, BackboneConfig
from react_ray.clip.identity import short_name
from react_ray.clip.pretrained import hub_file
from react_ray.clip.weights import read_info, read_weights
from react_ray.errors import BackboneError, ConfigError
from react_ray.gated.attach import NAME, gated_layers
from react_ray.gated.config import LAST_K_LAYERS
from react_ray.gated.load import backbone_of, load_backbone, load_customised, weights_of
from react_ray.gated.trained import is_trained
from react_ray.storage import local_file

PREFIX = "react_"
# Of whole models, with as many new blocks as published. A file with another number of them is another architecture.
NUM_PARAMETERS = {
    "react_ViT-B-32": 193_804_557,
    "react_ViT-B-16": 192_147_981,
    "react_ViT-L-14": 503_193_869,
    "react_ViT-H-14": 1_104_174_093,
    "react_ViT-bigG-14": 2_938_547_737,
}
REPOSITORY = "react-vl/react-in1k"
WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors")


@dataclass(frozen=True)
class Released:
    model: str
    tag: str
    file: str
    quick_gelu: bool = False
    centred: bool = False  # images are normalised with mean = std = 0.5 instead of OpenAI's numbers


# OpenCLIP's LAION-400M B/32 was trained with QuickGELU too, which the official rule (tags that begin with react_clip_)
# misses.
RELEASED = (
    Released("ViT-B-32", "react_clip_ret_laion400m", "clip-vit-base-32-locked-text.pt", True),
    Released("ViT-B-32", "react_openclip_laion400m_ret_laion400m", "openclip-vit-base-32-locked-text.pt", True),
    Released("ViT-B-32", "react_openclip_laion2b_ret_laion400m", "openclip-laion2b-vit-base-32-locked-text.pt"),
    Released("react_ViT-B-32", "react_clip_ret_laion400m", "clip-vit-base-32-gated-image.pt", True),
    Released("react_ViT-B-32", "react_openclip_laion400m_ret_laion400m", "openclip-vit-base-32-gated-image.pt", True),
    Released("react_ViT-B-32", "react_openclip_laion2b_ret_laion400m", "openclip-laion2b-vit-base-32-gated-image.pt"),
    Released("ViT-B-16", "react_clip_ret_laion400m", "clip-vit-base-16-locked-text.pt", True),
    Released("react_ViT-B-16", "react_clip_ret_laion400m", "clip-vit-base-16-gated-image.pt", True),
    Released("react_ViT-L-14", "react_clip_ret_laion400m", "clip-vit-large-14-gated-image.pt", True),
    Released("react_ViT-L-14", "react_clip_ret_laion2b", "clip-vit-large-14-gated-image-laion2b.pt", True),
    Released(
        "react_ViT-L-14", "react_openclip_laion2b_ret_laion400m", "openclip-vit-large-14-gated-image.pt", centred=True
    ),
    Released(
        "react_ViT-L-14",
        "react_openclip_laion2b_ret_laion2b",
        "openclip-vit-large-14-gated-image-laion2b.pt",
        centred=True,
    ),
    Released("react_ViT-bigG-14", "react_openclip_laion2b_ret_laion2b", "openclip-vit-bigG-14-gated-image-laion2b.pt"),
)


def create_model_and_transforms(
    model_name: str,
    pretrained: str = "",
    *,
    base: str = "",
    device: str | torch.device = "cpu",
    force_quick_gelu: bool = False,
    cache_dir: str | None = None,
    arm: str = "",
    wise_ft: float | None = None,
) -> tuple[nn.Module, Callable[..., Tensor], Callable[..., Tensor]]:
    """Returns (model in eval mode, transform for training, transform for inference).

    model_name: or the folder of a run, of one of its arms, or of its artifact `model`. pretrained: a tag of REACT or of
    open_clip, a file with a whole model, a gated.safetensors, the folder of a run, or "random"; "" = the weights that
    the model's folder or repository comes with. base: for a gated.safetensors or a run, tag or file of the backbone's
    weights; "" = the weights that the file names. arm: the model of a run that has several. wise_ft: of a run's model,
    1 = as trained, 0 = its backbone; None = the weight with which the run's table was scored.
    """
    backbone = load_model(model_name, pretrained, base, device, force_quick_gelu, cache_dir, arm, wise_ft)
    return backbone.model, *transforms(backbone)


def get_tokenizer(model_name: str, arm: str = "") -> Callable[[list[str]], Tensor]:
    """The tokenizer maps texts to int64 [N, context_length]. model_name, arm: as in `create_model_and_transforms`."""
    if is_trained(model_name):
        path, _ = weights_of(model_name, None, arm)
        return load_tokenizer(backbone_of(read_info(path), model_name).name)
    return load_tokenizer(_base_name(model_name))


def list_pretrained() -> list[tuple[str, str]]:
    """(model, tag) of all released weights."""
    return [(r.model, r.tag) for r in RELEASED]


def load_model(
    model_name: str,
    pretrained: str = "",
    base: str = "",
    device: str | torch.device = "cpu",
    quick_gelu: bool = False,
    cache_dir: str | None = None,
    arm: str = "",
    wise_ft: float | None = None,
) -> Backbone:
    """As create_model_and_transforms; returns the Backbone, which also describes the model."""
    if is_trained(model_name):
        if pretrained:
            raise BackboneError(f"{model_name} is a run, which has its weights; leave pretrained={pretrained} out")
        return load_customised(model_name, wise_ft, arm, device, base)
    if is_trained(pretrained):
        backbone = load_customised(pretrained, wise_ft, arm, device, base)
        trained_on, name = short_name(backbone.config), short_name(BackboneConfig(name=_base_name(model_name)))
        if trained_on.removesuffix("-quickgelu") != name.removesuffix("-quickgelu"):
            raise BackboneError(
                f"{pretrained} was trained on {trained_on}, not on {name}; name that model, or the run alone"
            )
        _check_architecture(model_name, pretrained, backbone)
        return backbone
    if arm or wise_ft is not None:
        raise ConfigError(
            f"arm and wise_ft choose the model of a run, and {pretrained or model_name} is none; name a run's folder"
        )
    name = _base_name(model_name)
    values: dict[str, Any] = {"name": name, "quick_gelu": quick_gelu, "pretrained": pretrained}
    weights = ""
    if released := _released(model_name, pretrained):
        if pretrained == released.tag:
            values["pretrained"] = _download(released, cache_dir)
        half = [0.5] * 3 if released.centred else []
        values |= {"quick_gelu": released.quick_gelu or quick_gelu, "mean": half, "std": half}
    elif pretrained.endswith(WEIGHT_FILES):
        path = local_file(pretrained)
        info = read_info(path)
        trained_on = info.get("backbone_config", {})
        values |= {key: trained_on[key] for key in ("pretrained", "mean", "std") if key in trained_on}
        values["quick_gelu"] |= trained_on.get("quick_gelu", False) or trained_on.get("name", "").endswith("-quickgelu")
        if _is_whole(read_weights(path)):
            weights = path
        else:
            redrawn = trained_on.get("pretrained") != RANDOM or "seed" in info
            if not base and not (trained_on and redrawn):
                raise BackboneError(
                    f"{path} holds only what trained; pass base=<tag or file of the backbone's weights>"
                )
            weights = base
            values |= {"pretrained": trained_on.get("pretrained", base), "gated": pretrained}
    else:  # plain base weights, or none: gated blocks are new, gates at zero
        values["last_k_layers"] = _last_k_layers(model_name)
    backbone = load_backbone(BackboneConfig.model_validate(values), device, weights=weights)
    _check_architecture(model_name, pretrained, backbone)
    return backbone


def _check_architecture(model_name: str, pretrained: str, backbone: Backbone) -> None:
    """BackboneError if the model of these weights cannot have this name."""
    if model_name.startswith(PREFIX) and not gated_layers(backbone.model):
        raise BackboneError(
            f"{pretrained} has no gated blocks; name the model {_base_name(model_name)}, without {PREFIX}"
        )
    check_size(model_name, backbone.model)


def check_size(model_name: str, model: nn.Module) -> None:
    """BackboneError if a model of a known name does not have the number of parameters that is known for it.

    The number is that of the model with as many gated blocks as this one has.
    """
    expected = NUM_PARAMETERS.get(model_name.removesuffix("-quickgelu"))
    if expected is None:
        return
    found = sum(p.numel() for p in model.parameters())
    if layers := gated_layers(model):
        in_blocks = sum(p.numel() for name, p in model.named_parameters() if f".{NAME}." in name)
        expected += (len(layers) - _last_k_layers(model_name)) * (in_blocks // len(layers))
    if found != expected:
        raise BackboneError(
            f"{model_name} has {found:,} parameters instead of {expected:,}; name the model that these weights are of"
        )


def _base_name(model_name: str) -> str:
    _last_k_layers(model_name)
    return model_name.removeprefix(PREFIX)


def _last_k_layers(model_name: str) -> int:
    """The number of gated blocks that the name stands for; 0 if it stands for none."""
    if not model_name.startswith(PREFIX):
        return 0
    name = model_name.removeprefix(PREFIX).removesuffix("-quickgelu")
    if name not in LAST_K_LAYERS:
        near = difflib.get_close_matches(name, LAST_K_LAYERS, n=1, cutoff=0)[0]
        raise BackboneError(f"{model_name}: no such REACT model; did you mean {PREFIX}{near}?")
    return LAST_K_LAYERS[name]


def _released(model_name: str, pretrained: str) -> Released | None:
    """Finds released weights by tag, or by the name of a downloaded file; both decide activation and normalisation."""
    model_name = model_name.removesuffix("-quickgelu")
    for released in RELEASED:
        if released.model == model_name and pretrained == released.tag:
            return released
        if os.path.basename(pretrained) == released.file:
            return released
    if pretrained.startswith(PREFIX) and not pretrained.endswith(WEIGHT_FILES):
        tags = [r.tag for r in RELEASED if r.model == model_name]
        hint = (
            f"its tags are {', '.join(tags)}"
            if tags
            else f"choose from {', '.join(sorted({r.model for r in RELEASED}))}"
        )
        raise BackboneError(f"{model_name}: no weights with the tag {pretrained} were released; {hint}")
    return None


def _download(released: Released, cache_dir: str | None) -> str:
    try:
        return hub_file(REPOSITORY, released.file, cache_dir)
    except BackboneError as error:
        raise BackboneError(
            f"{error}; the tag {released.tag} of {released.model} is {released.file} of huggingface.co/{REPOSITORY}: "
            f"pass pretrained=<path of that file> once you have it"
        ) from error


def _is_whole(state: dict[str, Tensor]) -> bool:
    """False for a file with trained tensors only."""
    has_text = any(name.endswith("token_embedding.weight") for name in state)
    return "logit_scale" in state and has_text and any(name.startswith("visual.") for name in state)
