"""Decides which parameters of a CLIP train: the methods of customisation."""

from __future__ import annotations

import torch
from torch import nn

from react_ray.clip.image_tower import image_blocks
from react_ray.clip.weights import weights_sha256
from react_ray.errors import ConfigError
from react_ray.gated.attach import NAME, attach_gated_blocks
from react_ray.gated.config import CustomizeConfig, Method, last_k_layers, runs_no_model
from react_ray.gated.lora import attach_lora, plain_name

TEMPERATURE = ("logit_scale", "logit_bias")


def resolved(config: CustomizeConfig, name: str, model: nn.Module) -> CustomizeConfig:
    """`config` with the number that last_k_layers=0 stands for on this backbone, if the method has layers to choose."""
    if config.method not in ("gated-image", "lora"):
        return config
    return config.model_copy(update={"last_k_layers": last_k_layers(config, name, len(image_blocks(model)))})


def prepare(model: nn.Module, config: CustomizeConfig, seed: int) -> list[str]:
    """Adds the method's new parameters, which change no output, freezes the rest, and returns the names that train.

    config: as returned by `resolved`.
    """
    device = next(model.parameters()).device
    if config.method == "gated-image":
        attach_gated_blocks(model, config.last_k_layers, config.init, torch.Generator().manual_seed(seed))
    elif config.method == "lora":
        attach_lora(model, config.last_k_layers, config.lora_rank, config.lora_alpha, seed)
    elif runs_no_model(config.method):
        raise ConfigError(f"customize.method={config.method} runs no model; it makes a head of stored vectors instead")
    model.to(device)
    return freeze(model, config.method)


def trainable_names(model: nn.Module, method: Method) -> list[str]:
    """Names of the parameters that `method` trains, in the order of the model."""
    names = [name for name, _ in model.named_parameters() if _trains(name, method)]
    if all(name in TEMPERATURE for name in names):
        raise ConfigError(
            f"customize.method={method}: nothing to train in this model; attach what the method trains first"
        )
    return names


def _trains(name: str, method: Method) -> bool:
    if name in TEMPERATURE or method == "full":
        return True
    image = name.startswith("visual.")
    if method == "gated-image":
        return image and f".{NAME}." in name
    if method == "lora":
        return image and ".lora_" in name
    return image if method == "locked-text" else not image


def logit_bias(model: nn.Module) -> nn.Parameter | None:
    """The bias of a model that was trained by the sigmoid loss (SigLIP), and goes on by it; None of all others."""
    found = getattr(model, "logit_bias", None)
    return found if isinstance(found, nn.Parameter) else None


def freeze(model: nn.Module, method: Method) -> list[str]:
    """Sets requires_grad of every parameter, and returns the names that train."""
    names = trainable_names(model, method)
    trains = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trains)
    return names


def frozen_sha256(model: nn.Module) -> str:
    """Digest of every frozen tensor: a file of trained tensors fits only the model that has the same."""
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return weights_sha256({plain_name(name): value for name, value in model.state_dict().items() if name not in trains})
