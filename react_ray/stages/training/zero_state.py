"""Reads and writes the unsharded tensors of a model that DeepSpeed trains: the content of a checkpoint.

Tensors are those of a training without DeepSpeed, so a checkpoint fits any number of workers and any ZeRO stage. All
workers must ask for the same parameters in the same order, because the shards are gathered. `deepspeed.utils.safe_*`
does that for ZeRO 1 to 3; ours are ZeRO 0, for which it has no answer, and the working copies of weights, which it
leaves as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from react_ray.clip.weights import digest_of
from react_ray.gated.lora import plain_name

WEIGHT, MOMENTS = "weight", ("exp_avg", "exp_avg_sq")


def trained_weights(engine: Any, model: nn.Module) -> dict[str, Tensor]:
    """{name: float32 copy on the CPU} of every trainable parameter."""
    return {name: whole(engine, parameter, WEIGHT).to("cpu", copy=True) for name, parameter in trainable(model)}


def training_state(engine: Any, model: nn.Module) -> dict[str, Tensor]:
    """`weight/NAME` and, after the first step, `exp_avg/NAME` and `exp_avg_sq/NAME`: float32 copies on the CPU."""
    kinds = (WEIGHT, *MOMENTS) if _has_stepped(engine) else (WEIGHT,)
    _link_moments(engine)
    return {
        f"{kind}/{name}": whole(engine, parameter, kind).to("cpu", copy=True)
        for name, parameter in trainable(model)
        for kind in kinds
    }


def load_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Must come before the engine is made, which takes copies of the weights."""
    with torch.no_grad():
        for name, parameter in trainable(model):
            parameter.copy_(state[f"{WEIGHT}/{name}"])


def load_moments(engine: Any, model: nn.Module, state: dict[str, Tensor], step: int) -> None:
    """Puts AdamW where it was after `step` steps."""
    if not any(name.startswith(MOMENTS) for name in state):
        return
    inner = getattr(engine.optimizer, "optimizer", engine.optimizer)
    for tensor in _stepped(engine, model):
        moments = {kind: torch.zeros_like(tensor.data) for kind in MOMENTS}
        inner.state[tensor] = {"step": torch.tensor(float(step), device=tensor.device), **moments}
    _link_moments(engine)
    for name, parameter in trainable(model):
        for kind in MOMENTS:
            set_whole(engine, parameter, kind, state[f"{kind}/{name}"].to(parameter.device))


def frozen_digest(model: nn.Module) -> str:
    """As gated.method.frozen_sha256, gathering one sharded tensor after the other."""
    trains = {name for name, _ in trainable(model)}
    names = sorted((plain_name(name), name) for name in model.state_dict() if name not in trains)
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    return digest_of(
        (plain, _gathered(parameters[name]) if name in parameters else buffers[name]) for plain, name in names
    )


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def whole(engine: Any, parameter: nn.Parameter, kind: str) -> Tensor:
    """The weight of a trainable parameter or one of its moments, as `kind` says, unsharded and in float32."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    if kind == WEIGHT:
        found = safe_get_full_fp32_param(parameter)
        return (parameter if found is None else found).detach()
    found = safe_get_full_optimizer_state(parameter, kind)
    return engine.optimizer.state[parameter][kind] if found is None else found


@torch.no_grad()
def set_whole(engine: Any, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
    """Every worker passes the whole value and keeps its shard. value: of the parameter's shape, on its device."""
    if _is_sharded(parameter):
        _set_sharded(parameter, kind, value)
    elif hasattr(parameter, "_hp_mapping"):  # ZeRO 1, 2
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if kind == WEIGHT:
            safe_set_full_fp32_param(parameter, value)
            parameter.copy_(value)
        else:
            safe_set_full_optimizer_state(parameter, value, kind)
    else:
        (parameter if kind == WEIGHT else engine.optimizer.state[parameter][kind]).copy_(value)


def _set_sharded(parameter: Any, kind: str, value: Tensor) -> None:
    """ZeRO 3. DeepSpeed's safe_set_full_* forgets the padding of the last rank, so the shard is cut here."""
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    shard = _own_shard(parameter, value)
    if kind != WEIGHT:
        safe_set_local_optimizer_state(parameter, shard, kind)
        return
    safe_set_local_fp32_param(parameter, shard)
    parameter.ds_tensor.data.copy_(shard)
    if parameter.numel():  # a small parameter, which every rank holds as a whole
        parameter.copy_(value)


def _own_shard(parameter: Any, value: Tensor) -> Tensor:
    """ZeRO 3: rank r of n holds the r-th of n equal pieces; the last piece is padded with zeros."""
    size = parameter.ds_tensor.ds_numel if hasattr(parameter.ds_tensor, "ds_numel") else parameter.ds_tensor.numel()
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    padded = torch.zeros(size * world_size, dtype=value.dtype, device=value.device)
    padded[: value.numel()] = value.flatten()
    return padded[rank * size : (rank + 1) * size]


def _stepped(engine: Any, model: nn.Module) -> list[Tensor]:
    """The tensors that AdamW itself steps: parameters, or this worker's flat shards of them."""
    for of_stage in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"):
        if hasattr(engine.optimizer, of_stage):
            return list(getattr(engine.optimizer, of_stage))
    return [parameter for _, parameter in trainable(model)]


def _link_moments(engine: Any) -> None:
    """ZeRO 1, 2: tells parameters where their moments are. DeepSpeed does so before other groups than the first have
    any."""
    if not hasattr(engine.optimizer, "single_partition_of_fp32_groups"):
        return
    from deepspeed.utils import lazy_init_hp_params_optimizer_state

    groups = zip(engine.optimizer.bit16_groups, engine.optimizer.single_partition_of_fp32_groups, strict=True)
    for parameters, flat in groups:
        lazy_init_hp_params_optimizer_state(parameters, flat, engine.optimizer.optimizer.state)


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
