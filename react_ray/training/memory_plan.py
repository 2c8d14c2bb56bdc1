"""Estimates the parameters and the peak memory of one worker before a training starts.

The model is built on the meta device, without memory. Bytes of activations are those that torch keeps for backward, per
token and channel of a block; a test measures them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from react_ray.clip.architecture import architecture, empty_model, settled
from react_ray.clip.config import BackboneConfig
from react_ray.clip.identity import published, same_text_tower, short_name
from react_ray.clip.image_tower import image_blocks
from react_ray.errors import ConfigError
from react_ray.gated.attach import attach_gated_blocks
from react_ray.gated.config import CustomizeConfig, needs_text_tower, runs_no_model
from react_ray.gated.lora import attach_lora
from react_ray.gated.method import freeze, resolved
from react_ray.training.loss import LOGITS_AT_ONCE
from react_ray.training.schedule import BATCH_SIZE

# Bytes that a block keeps for backward per (token x channel): fixed, and per unit of its MLP's ratio.
KEPT = {
    ("fp32", "gated"): (40.0, 8.0),
    ("fp32", "frozen"): (24.0, 4.0),
    ("fp32", "trained"): (32.0, 8.0),
    ("bf16", "gated"): (28.0, 4.0),
    ("bf16", "frozen"): (16.0, 2.0),
    ("bf16", "trained"): (20.0, 4.0),
}
QUICK_GELU = {"fp32": 4.0, "bf16": 2.0}  # more bytes per unit of the ratio
GATED_RATIO = 4.0


@dataclass(frozen=True)
class Plan:
    """The numbers of one worker; memory in bytes, by purpose."""

    name: str
    method: str
    num_parameters: int
    num_trainable: int
    memory: dict[str, int]
    on_host: int  # the part of `memory` that offload moves to the host
    other_encoder: str = ""  # the model that embedded the captions, where this model has another text tower

    @property
    def peak_gb(self) -> float:
        return (sum(self.memory.values()) - self.on_host) / 2**30

    def text(self) -> str:
        lines = [
            f"{self.name}, {self.method}: {self.num_parameters:,} parameters, {self.num_trainable:,} train "
            f"({100 * self.num_trainable / self.num_parameters:.1f} %)"
        ]
        if self.other_encoder:
            lines.append(f"  its text tower runs in each step: captions were embedded by {self.other_encoder}")
        lines += [f"  {what:<34} {size / 2**30:8.2f} GB" for what, size in self.memory.items()]
        if self.on_host:
            lines.append(f"  {'of it on the host':<34} {self.on_host / 2**30:8.2f} GB")
        lines.append(f"  {'peak of a worker, on paper':<34} {self.peak_gb:8.2f} GB")
        return "\n".join(lines)


def plan(backbone: BackboneConfig, config: CustomizeConfig, encoder: BackboneConfig | None = None) -> Plan:
    """The plan of a worker, which gets batch_size / num_workers images.

    A batch size that is left to the data counts as the largest, unless `config` is settled (schedule.from_data).
    encoder: the model that embedded the captions. No weights are loaded here, so two text towers count as the same if
    names and tags are equal; and the activation function follows from the backbone's name, tag or quick_gelu.
    """
    if runs_no_model(config.method):
        raise ConfigError(
            f"customize.method={config.method} reads stored vectors: it needs no more than these; plan another method"
        )
    other = ""
    if encoder and not needs_text_tower(config) and not same_text_tower(published(backbone, 0), published(encoder, 0)):
        config, other = config.model_copy(update={"live_text": True}), short_name(encoder)
    config = config.model_copy(update={"batch_size": config.batch_size or BATCH_SIZE})
    backbone = settled(backbone)
    name, quick_gelu = backbone.name, architecture(backbone)[0]["quick_gelu"]
    model: Any = empty_model(name)
    config = resolved(config, name, model)
    num_all = sum(p.numel() for p in model.parameters())
    image = sum(p.numel() for p in model.visual.parameters())
    with torch.device("meta"):
        if config.method == "gated-image":
            attach_gated_blocks(model, config.last_k_layers)
        elif config.method == "lora":
            attach_lora(model, config.last_k_layers, config.lora_rank, config.lora_alpha)
    freeze(model, config.method)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    text = needs_text_tower(config)
    held = total if text else total - (num_all - image)
    workers, stage = config.num_workers, config.zero_stage
    activations, copies = _activations(model, config, quick_gelu)
    num_local = -(-config.batch_size // workers)
    side = int(model.visual.image_size[0])
    width = int(model.visual.output_dim)
    memory = {
        "weights (float32)": 4 * held // (workers if stage == 3 else 1),
        "gradients": 4 * trainable // (workers if stage >= 2 else 1),
        "AdamW's two moments": 8 * trainable // (workers if stage >= 1 else 1),
        "moving average": 4 * trainable if config.ema_decay else 0,
        "weights cast to bfloat16": copies,
        "activations kept for backward": activations,
        "images, as they come and augmented": num_local * 3 * side * side * 9,
        "logits and features of the loss": 12 * min(num_local * config.batch_size, LOGITS_AT_ONCE)
        + 16 * config.batch_size * width,
    }
    on_host = 0
    if config.offload:
        on_host = memory["AdamW's two moments"] + (memory["weights (float32)"] if stage == 3 else 0)
    return Plan(name, config.method, total, trainable, {k: v for k, v in memory.items() if v}, on_host, other)


def _activations(model: Any, config: CustomizeConfig, quick_gelu: bool) -> tuple[int, int]:
    """(bytes of activations kept for backward, bytes of weights that autocast keeps cast to bfloat16)"""
    blocks = image_blocks(model)
    num_tokens, width = model.visual.positional_embedding.shape
    patches = int((num_tokens - 1) * (1 - config.patch_dropout)) + 1
    layers = _kept_by_layers(config, len(blocks), _mlp_width(model) / width, quick_gelu)
    per_token = 0.0
    if layers:
        per_token = 4.0 * len(layers) + max(layers) if config.activation_checkpointing else sum(layers)
    num_local = -(-config.batch_size // config.num_workers)
    at_once = min(config.micro_batch_size or num_local, num_local)
    kept = int(at_once * patches * width * per_token)
    if config.micro_batch_size:
        kept += 4 * num_local * patches * width  # what enters the first block that trains
    if config.method in ("locked-image", "full"):
        tower: Any = model if hasattr(model, "token_embedding") else model.text
        length, text_width = tower.positional_embedding.shape
        kept += int(
            num_local
            * length
            * text_width
            * len(tower.transformer.resblocks)
            * _kept("trained", 4.0, config, quick_gelu)
        )
    in_graph = sum(p.numel() for block in blocks[len(blocks) - len(layers) :] for p in block.parameters())
    return kept, 2 * in_graph if config.precision == "bf16" else 0


def _kept_by_layers(config: CustomizeConfig, num_layers: int, ratio: float, quick_gelu: bool) -> list[float]:
    """Bytes per token and channel of each image block on the gradient's path. The last block, of which only one token
    is needed, counts as a whole."""
    if config.method == "gated-image":
        both = _kept("gated", GATED_RATIO, config, quick_gelu) + _kept("frozen", ratio, config, quick_gelu)
        return [both] * config.last_k_layers
    if config.method == "locked-image":
        return []
    number = config.last_k_layers if config.method == "lora" else num_layers
    return [_kept("trained", ratio, config, quick_gelu)] * number


def _kept(kind: str, ratio: float, config: CustomizeConfig, quick_gelu: bool) -> float:
    fixed, per_ratio = KEPT[(config.precision, kind)]
    return fixed + ratio * (per_ratio + (QUICK_GELU[config.precision] if quick_gelu else 0.0))


def _mlp_width(model: Any) -> int:
    return int(model.visual.transformer.resblocks[0].mlp.c_fc.out_features)
