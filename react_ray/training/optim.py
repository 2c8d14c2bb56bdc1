"""AdamW's parameter groups, and the moving average of the trainable weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from react_ray.gated.config import CustomizeConfig

MAX_LOGIT_SCALE = math.log(100)
GATES = ("alpha_attn", "alpha_dense")
NO_DECAY = ("bn", "ln", "bias", "logit_scale")


def param_groups(model: nn.Module, config: CustomizeConfig) -> list[dict[str, Any]]:
    """AdamW's groups, none empty; each has `name`, `params`, `weight_decay`, `lr` and `initial_lr`, the peak of `lr`.

    As in open_clip, nothing with ndim < 2 and no name with bn, ln, bias or logit_scale decays. Gates have a rate of
    their own. The model's requires_grad must be set (gated/method.py). config: as from `schedule.from_data`.
    """
    assert config.lr and config.gate_lr_scale, "the rates are settled before a training"
    members: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": [], "gates": []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.rpartition(".")[2] in GATES:
            members["gates"].append(parameter)
        elif parameter.ndim < 2 or any(part in name for part in NO_DECAY):
            members["no_decay"].append(parameter)
        else:
            members["decay"].append(parameter)
    groups = []
    for name, params in members.items():
        lr = config.lr * (config.gate_lr_scale if name == "gates" else 1)
        decay = config.weight_decay if name == "decay" else 0.0
        groups.append({"name": name, "params": params, "weight_decay": decay, "lr": lr, "initial_lr": lr})
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, config: CustomizeConfig) -> torch.optim.AdamW:
    """Fused AdamW over `param_groups`."""
    return torch.optim.AdamW(
        param_groups(model, config), betas=(config.beta1, config.beta2), eps=config.eps, fused=True
    )


def set_learning_rate(optimizer: Any, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


class Ema:
    """Exponential moving average of the trainable tensors: shadow <- d * shadow + (1 - d) * value.

    d = min(decay, (1 + t) / (10 + t)) at update t, so that the random start is forgotten. It needs unsharded tensors,
    so it does not work with ZeRO 3.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        values = [model.get_parameter(name).detach() for name in self.shadow]
        get_ema_multi_avg_fn(decay)(list(self.shadow.values()), values, None)

    def resume(self, shadow: dict[str, Tensor], num_updates: int) -> None:
        """Goes on from a copy of `shadow`, the average after `num_updates` updates."""
        if shadow.keys() != self.shadow.keys():
            raise ValueError("the average is of other parameters than those that train; resume with the same method")
        self.num_updates = num_updates
        for name, value in shadow.items():
            self.shadow[name].copy_(value.reshape(self.shadow[name].shape))
