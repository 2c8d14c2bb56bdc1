"""One worker of a tiny training under DeepSpeed, for spawning: results that must be alike for every ZeRO stage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from react_ray.clip.text import drop_text_tower
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.method import frozen_sha256, prepare
from react_ray.stages.training import zero_state
from react_ray.stages.training.agreement import mean_loss
from react_ray.stages.training.engine import clamp_temperature, make_engine, optimizer_step
from react_ray.training.batches import Batch
from react_ray.training.optim import MAX_LOGIT_SCALE
from react_ray.training.step import TrainingStep
from tests.support.tiny_clip import tiny_backbone

SIZE, STEPS = 12, 2
Case = tuple[int, bool]  # ZeRO stage, offload


def batch(step: int, rank: int, world_size: int, image_size: int, dim: int) -> Batch:
    random = np.random.default_rng(step)
    mine = slice(rank * SIZE // world_size, (rank + 1) * SIZE // world_size)
    images = random.integers(0, 256, (SIZE, 3, image_size, image_size), np.uint8)[mine]
    texts = random.standard_normal((SIZE, dim)).astype(np.float16)[mine]
    ids = np.arange(SIZE)[mine]
    return Batch(step, 0, np.ascontiguousarray(images), [""] * len(ids), ids, np.full(len(ids), -1), ids, texts)


def run_rank(rank: int, world_size: int, cases: list[Case], rendezvous: str, folder: str) -> None:
    """Writes the results of each case as `STAGE-OFFLOAD.pt` in `folder`."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world_size)
    try:
        for case in cases:
            found = trained(rank, world_size, case, Path(folder, f"backbone-{rank}"))
            if rank == 0:
                torch.save(found, f"{folder}/{case[0]}-{case[1]}.pt")
    finally:
        torch.distributed.destroy_process_group()


def trained(rank: int, world_size: int, case: Case, folder: Path) -> dict[str, Any]:
    given = {
        "batch_size": SIZE,
        "last_k_layers": 2,
        "lr": 1e-3,
        "gate_lr_scale": 1.0,
        "grad_clip": 1.0,
        "zero_stage": case[0],
        "offload": case[1],
    }
    config = CustomizeConfig.model_validate(given)
    folder.mkdir(exist_ok=True)

    def engine_of(state: dict[str, torch.Tensor], step: int) -> tuple[Any, Any, str]:
        backbone = tiny_backbone(folder)
        prepare(backbone.model, config, 0)
        drop_text_tower(backbone.model)
        frozen = frozen_sha256(backbone.model)
        if state:
            zero_state.load_weights(backbone.model, state)
        engine = make_engine(TrainingStep(backbone, config, 0, rank), config, world_size)
        zero_state.load_moments(engine, backbone.model, state, step)
        return backbone, engine, frozen

    norms: list[float] = []

    def steps(backbone: Any, engine: Any, first: int) -> list[float]:
        losses = []
        for step in range(first, first + STEPS):
            loss = engine(batch(step, rank, world_size, backbone.image_size, backbone.dim))
            engine.backward(loss)
            norms.append(optimizer_step(engine, backbone.model))
            clamp_temperature(engine, backbone.model)
            losses.append(mean_loss(loss)[0])
        return losses

    backbone, engine, frozen = engine_of({}, 0)
    losses = steps(backbone, engine, 0)
    middle = zero_state.training_state(engine, backbone.model)
    losses += steps(backbone, engine, STEPS)
    end = zero_state.training_state(engine, backbone.model)
    unchanged = zero_state.frozen_digest(backbone.model) == frozen
    again, resumed, _ = engine_of(middle, STEPS)
    restored = zero_state.training_state(resumed, again.model)
    resumed_losses = steps(again, resumed, STEPS)
    zero_state.set_whole(
        resumed, again.model.get_parameter("logit_scale"), zero_state.WEIGHT, torch.tensor([MAX_LOGIT_SCALE + 1])
    )
    clamp_temperature(resumed, again.model)
    before = zero_state.trained_weights(resumed, again.model)
    factor = float("inf") if rank == world_size - 1 else 1.0
    resumed.backward(resumed(batch(STEPS, rank, world_size, again.image_size, again.dim)) * factor)
    endless = optimizer_step(resumed, again.model)
    after = zero_state.trained_weights(resumed, again.model)
    return {
        "losses": losses,
        "norms": norms,
        "endless_norm": endless,
        "kept": all(value.equal(before[name]) for name, value in after.items()),
        "middle": middle,
        "end": end,
        "unchanged": unchanged,
        "restored": restored,
        "resumed_losses": resumed_losses,
        "clamped": zero_state.trained_weights(resumed, again.model)["logit_scale"].item(),
    }
