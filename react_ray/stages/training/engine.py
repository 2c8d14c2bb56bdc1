"""The DeepSpeed engine around a TrainingStep, and the two parts of a step that DeepSpeed leaves to us."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import nn

from react_ray.gated.config import CustomizeConfig
from react_ray.gated.method import logit_bias
from react_ray.stages.training.zero_state import WEIGHT, set_whole, trainable, whole
from react_ray.training.deepspeed_config import deepspeed_config
from react_ray.training.optim import MAX_LOGIT_SCALE, make_optimizer
from react_ray.training.step import TrainingStep


def make_engine(step: TrainingStep, config: CustomizeConfig, world_size: int) -> Any:
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    on_cpu = not config.gpus_per_worker
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    import deepspeed.ops

    if on_cpu:
        # An all-reduce in shared memory, which a C++ compiler builds at the first start (28 s); plain gloo needs none.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine, *_ = deepspeed.initialize(
        model=step, optimizer=make_optimizer(step.clip, config), config=deepspeed_config(config, world_size)
    )
    return engine


def optimizer_step(engine: Any, model: nn.Module) -> float:
    """Returns the norm of the whole gradient before clipping, the same on all workers; if it is not finite no weight
    changes.

    ZeRO 1 to 3 compute the norm in their step and skip the step themselves; without sharding each worker has the whole
    gradient.
    """
    if engine.zero_optimization_stage():
        engine.step()
        return float(engine.get_global_grad_norm())
    norm = float(torch.nn.utils.get_total_norm(p.grad for _, p in trainable(model) if p.grad is not None))
    if math.isfinite(norm):
        engine.step()
    return norm


def clamp_temperature(engine: Any, model: nn.Module) -> None:
    """Clamps logit_scale to [0, ln 100] after every step, as CLIP does, also in DeepSpeed's float32 copy.

    SigLIP's is not clamped, as it was not when it was trained: it is 117 in the published ViT-B-16-SigLIP.
    """
    if logit_bias(model) is not None:
        return
    parameter = model.get_parameter("logit_scale")
    value = whole(engine, parameter, WEIGHT)
    clamped = value.clamp(0, MAX_LOGIT_SCALE)
    if not torch.equal(value, clamped):
        set_whole(engine, parameter, WEIGHT, clamped)
