"""Derives DeepSpeed's JSON from the recipe: a plain dict, which is saved beside the checkpoints.

Parameters stay float32 and autocast is ours. The optimizer is torch's AdamW, so no stage needs a compiler. Frozen
parameters have no gradient and no optimizer state, so stages 1 and 2 shard only what trains; stage 3 shards all
weights.
"""

from __future__ import annotations

from typing import Any

from react_ray.errors import ConfigError
from react_ray.gated.config import CustomizeConfig


def deepspeed_config(config: CustomizeConfig, world_size: int) -> dict[str, Any]:
    """The whole JSON. Raises ConfigError for combinations that DeepSpeed would refuse later, or silently ignore."""
    if config.offload and config.zero_stage == 0:
        raise ConfigError(
            "customize.offload needs optimizer states that are sharded; set customize.zero_stage to 1, 2 or 3"
        )
    if config.zero_stage == 3 and config.ema_decay:
        raise ConfigError(
            "customize.ema_decay averages whole tensors, ZeRO 3 shards them; set ema_decay=0 or zero_stage=2"
        )
    zero: dict[str, Any] = {"stage": config.zero_stage}
    if config.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": config.gpus_per_worker > 0}
        if config.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": config.gpus_per_worker > 0}
    out = {
        "train_batch_size": config.batch_size,
        "train_micro_batch_size_per_gpu": config.batch_size // world_size,
        "gradient_accumulation_steps": 1,  # micro-batches are ours: the loss needs the whole batch at once
        "gradient_clipping": config.grad_clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 30,
        "wall_clock_breakdown": False,
    }
    if config.offload:
        out["zero_force_ds_cpu_optimizer"] = False  # torch's AdamW runs on the host as well
    return out
