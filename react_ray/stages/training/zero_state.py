"""Whole tensors of a model that DeepSpeed trains, whatever it has sharded: what a checkpoint needs, and what it gives back.

Takes an engine's optimizer and parameters, gives tensors as they are without DeepSpeed; so a checkpoint fits any number
of workers and any ZeRO stage. All workers must ask for the same parameters in the same order: the parts are gathered.
Next: checkpoints.py.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from react_ray.clip.weights import digest_of
from react_ray.gated.lora import plain_name
from react_ray.training.optim import MAX_LOGIT_SCALE

WEIGHT, MOMENTS = "weight", ("exp_avg", "exp_avg_sq")


def trained_weights(engine: Any, model: nn.Module) -> dict[str, Tensor]:
    """{name: copy on the CPU} of all that trains; float32."""
    return {name: _whole(engine, parameter, WEIGHT).to("cpu", copy=True) for name, parameter in _trainable(model)}


def training_state(engine: Any, model: nn.Module) -> dict[str, Tensor]:
    """`weight/NAME`, and after the first step `exp_avg/NAME` and `exp_avg_sq/NAME`, of all that trains; as trained_weights."""
    kinds = (WEIGHT, *MOMENTS) if _has_stepped(engine) else (WEIGHT,)
    _link_moments(engine)
    return {
        f"{kind}/{name}": _whole(engine, parameter, kind).to("cpu", copy=True)
        for name, parameter in _trainable(model)
        for kind in kinds
    }


def load_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Before the engine is made, which takes its own copies."""
    with torch.no_grad():
        for name, parameter in _trainable(model):
            parameter.copy_(state[f"{WEIGHT}/{name}"])


def load_moments(engine: Any, model: nn.Module, state: dict[str, Tensor], step: int) -> None:
    """AdamW goes on as after `step` steps."""
    if not any(name.startswith(MOMENTS) for name in state):
        return
    inner = getattr(engine.optimizer, "optimizer", engine.optimizer)
    for tensor in _stepped(engine, model):
        moments = {kind: torch.zeros_like(tensor.data) for kind in MOMENTS}
        inner.state[tensor] = {"step": torch.tensor(float(step), device=tensor.device), **moments}
    _link_moments(engine)
    for name, parameter in _trainable(model):
        for kind in MOMENTS:
            _set(engine, parameter, kind, state[f"{kind}/{name}"].to(parameter.device))


def optimizer_step(engine: Any, model: nn.Module) -> float:
    """The norm of the whole gradient before it is clipped, the same on all workers. Where it is not finite no weight changes.

    ZeRO 1 to 3 compute it in their step, and leave the step out themselves; without sharding each worker has all of it.
    """
    if engine.zero_optimization_stage():
        engine.step()
        return float(engine.get_global_grad_norm())
    norm = float(torch.nn.utils.get_total_norm(p.grad for _, p in _trainable(model) if p.grad is not None))
    if math.isfinite(norm):
        engine.step()
    return norm


def clamp_temperature(engine: Any, model: nn.Module) -> None:
    """To [0, ln 100], after every step, as CLIP does; in DeepSpeed's own copy too."""
    parameter = model.get_parameter("logit_scale")
    if not parameter.requires_grad:
        return
    value = _whole(engine, parameter, WEIGHT)
    clamped = value.clamp(0, MAX_LOGIT_SCALE)
    if not torch.equal(value, clamped):
        _set(engine, parameter, WEIGHT, clamped)


def frozen_digest(model: nn.Module) -> str:
    """gated.method.frozen_sha256, of one tensor after the other where they are sharded."""
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    names = sorted((plain_name(name), name) for name in model.state_dict() if name not in trains)
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    return digest_of(
        (plain, _gathered(parameters[name]) if name in parameters else buffers[name]) for plain, name in names
    )


def _stepped(engine: Any, model: nn.Module) -> list[Tensor]:
    """What AdamW itself steps: parameters, or this worker's parts of them, which lie one after the other."""
    for of_stage in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"):
        if hasattr(engine.optimizer, of_stage):
            return list(getattr(engine.optimizer, of_stage))
    return [parameter for _, parameter in _trainable(model)]


def _link_moments(engine: Any) -> None:
    """ZeRO 1, 2: parameters learn where their moments are. DeepSpeed does it after the step of the first group, when the others have none."""
    if not hasattr(engine.optimizer, "single_partition_of_fp32_groups"):
        return
    from deepspeed.utils import lazy_init_hp_params_optimizer_state

    groups = zip(engine.optimizer.bit16_groups, engine.optimizer.single_partition_of_fp32_groups, strict=True)
    for parameters, flat in groups:
        lazy_init_hp_params_optimizer_state(parameters, flat, engine.optimizer.optimizer.state)


def _trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _gathered(parameter: nn.Parameter) -> Tensor:
    if not _is_sharded(parameter):
        return parameter.detach()
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters

    with GatheredParameters([parameter]):
        return parameter.detach().to("cpu", copy=True)


def _has_stepped(engine: Any) -> bool:
    return bool(getattr(engine.optimizer, "optimizer", engine.optimizer).state)


def _is_sharded(parameter: Tensor) -> bool:
    """By ZeRO 3."""
    return hasattr(parameter, "ds_id")


def _whole(engine: Any, parameter: nn.Parameter, kind: str) -> Tensor:
    key = None if kind == WEIGHT else kind
    if _is_sharded(parameter):
        return parameter._z3_optimizer.get_full_hp_param(parameter, key)  # type: ignore[attr-defined]
    if hasattr(parameter, "_hp_mapping"):  # ZeRO 1, 2
        return parameter.get_full_hp_param(key)  # type: ignore[attr-defined]
    return (parameter if key is None else engine.optimizer.state[parameter][key]).detach()


@torch.no_grad()
def _set(engine: Any, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
    """Every worker has the whole value and keeps its part. value: of the parameter's shape, on its device."""
    key = None if kind == WEIGHT else kind
    if _is_sharded(parameter):
        part = _own_part(parameter, value)
        parameter._z3_optimizer.set_local_hp_param(part, parameter, key)  # type: ignore[attr-defined]
        if key is None:
            parameter.ds_tensor.data.copy_(part)  # type: ignore[attr-defined]
            if parameter.numel():  # a small one, which is whole everywhere
                parameter.copy_(value)
    elif hasattr(parameter, "_hp_mapping"):
        parameter.set_full_hp_param(value, key)  # type: ignore[attr-defined]
        if key is None:
            parameter.copy_(value)
    else:
        (parameter if key is None else engine.optimizer.state[parameter][key]).copy_(value)


def _own_part(parameter: Any, value: Tensor) -> Tensor:
    """Of ZeRO 3: rank r of n has the r-th of n equal pieces, the last one filled up."""
    size = parameter.ds_tensor.ds_numel if hasattr(parameter.ds_tensor, "ds_numel") else parameter.ds_tensor.numel()
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    padded = torch.zeros(size * world_size, dtype=value.dtype, device=value.device)
    padded[: value.numel()] = value.flatten()
    return padded[rank * size : (rank + 1) * size]
