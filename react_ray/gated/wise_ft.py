"""WiSE-FT (arXiv 2109.01903): interpolates between the weights of the backbone and those of the customised model.

Weight 0 is the backbone, weight 1 the trained model. A gated block has no counterpart in the backbone; it is
interpolated towards the same block with gates at zero, which is the identity.
"""

from __future__ import annotations

import torch
from torch import nn

from react_ray.errors import BackboneError, ConfigError
from react_ray.gated.attach import NAME

GATES = ("alpha_attn", "alpha_dense")


@torch.no_grad()
def interpolate(base: nn.Module, customised: nn.Module, weight: float) -> None:
    """In place: customised <- (1 - weight) * base + weight * customised; tanh(gate) is multiplied by `weight`."""
    if not 0 <= weight <= 1:
        raise ConfigError(f"wise_ft={weight}: a weight between base (0) and customised model (1); choose one in [0, 1]")
    theirs = base.state_dict()
    for name, value in customised.state_dict().items():
        if f".{NAME}." in name:
            if name.rpartition(".")[2] in GATES and weight < 1:
                value.copy_(torch.atanh(weight * torch.tanh(value)))
        elif name not in theirs or theirs[name].shape != value.shape:
            raise BackboneError(f"wise_ft: the base has no {name} {list(value.shape)}; name the model's own backbone")
        elif value.is_floating_point():
            other = theirs[name].to(value)  # the two models may be on different devices
            if not torch.equal(value, other):
                value.lerp_(other, 1 - weight)
