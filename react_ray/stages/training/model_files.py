"""The files of a trained model: its weights, its description, the recipe and the model card."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from react_ray.clip.backbone import Backbone
from react_ray.gated.card import json_bytes, model_card
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.config import needs_text_tower
from react_ray.stages.training.job import Job
from react_ray.training.schedule import schedule_of


def describe(job: Job, backbone: Backbone, steps: int, num_pairs: int) -> dict[str, Any]:
    """The content of gated.json, which gated.safetensors holds too."""
    return {
        "backbone": backbone.describe(),
        "backbone_config": job.backbone.model_dump(),
        "method": job.config.method,
        "last_k_layers": job.config.last_k_layers if job.config.method == "gated-image" else 0,
        "digest": job.digest,
        "seed": job.seed,
        "live_text": needs_text_tower(job.config),
        "steps": steps,
        "schedule": schedule_of(job.config),
        "pairs_seen": steps * job.config.batch_size,
        "num_pairs": num_pairs,
    }


def model_files(
    job: Job,
    model: nn.Module,
    info: dict[str, Any],
    trained: dict[str, Tensor],
    frozen: str,
    scores: list[dict[str, Any]] | None,
) -> dict[str, bytes]:
    """{name: bytes}. info: as from `describe`. frozen: digest of the frozen weights. scores: rows of the model card."""
    dtype = torch.float16 if job.config.save_dtype == "fp16" else None
    return {
        "gated.safetensors": gated_bytes(model, info, trained, dtype, frozen),
        "gated.json": json_bytes(info),
        "recipe.yaml": job.recipe_yaml.encode(),
        "model_card.json": json_bytes(model_card(info, job.card, scores)),
    }
