"""Trains a linear head on image vectors, started from the class prompts (REAL, arXiv 2401.12425; SWAT, 2406.11148).

The head has one unit vector per class and replaces the prompts. On stored vectors (customize.method=linear) no model
runs, so it trains in seconds where gated blocks take hours; on the vectors of a customised model it is a second stage
(customize.head).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from react_ray.errors import ConfigError, TrainingDiverged
from react_ray.gated.config import CustomizeConfig
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.schedule import learning_rate


def train_head(
    vectors: LabelledVectors,
    start_CD: np.ndarray,
    config: CustomizeConfig,
    seed: int,
    class_weight_C: np.ndarray | None = None,
    show: Callable[[int, int, float], None] | None = None,
    steps: int = 0,
) -> np.ndarray:
    """Returns float32 [C, D], unit rows. Softmax of head_scale * cosine; AdamW, epochs, batch size and schedule as in
    the recipe.

    vectors: of one task, with class ids 0 .. C - 1. start_CD: float32, the classes' prompts. class_weight_C: the factor
    of each class's images. show: is called with (step, steps, loss). steps: 0 = those of the recipe's epochs.
    """
    if not len(vectors.image_ND):
        raise ConfigError(
            f"customize.method={config.method}: no retrieved pair has both a class and an image vector; retrieve more"
        )
    images = torch.from_numpy(vectors.image_ND)
    weight_C = None if class_weight_C is None else torch.from_numpy(class_weight_C)
    head_CD = torch.nn.Parameter(torch.from_numpy(start_CD.astype(np.float32).copy()))
    optimizer = torch.optim.AdamW(
        [head_CD],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )
    generator = torch.Generator().manual_seed(seed)
    size = min(config.batch_size, len(images))
    per_epoch = len(images) // size
    steps = steps or max(1, round(config.epochs * per_epoch))
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        place = step % per_epoch
        if place == 0:
            order = torch.randperm(len(images), generator=generator)
        rows = order[place * size : (place + 1) * size]
        for group in optimizer.param_groups:
            group["lr"] = config.lr * learning_rate(step, steps, config)
        target_BC = torch.from_numpy(vectors.targets(rows.numpy(), len(head_CD)))
        loss = head_loss(images[rows].float(), target_BC, head_CD, config.head_scale, weight_C)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if show:
            show(step + 1, steps, float(loss.detach()))
    if not torch.isfinite(head_CD).all():
        raise TrainingDiverged(
            f"the linear head has weights that are no numbers after {steps} steps; lower customize.lr, or for a head "
            "on a customised model customize.head_lr"
        )
    return F.normalize(head_CD.detach(), dim=1).numpy()


def head_loss(
    image_BD: Tensor, target_BC: Tensor, head_CD: Tensor, scale: float, weight_C: Tensor | None = None
) -> Tensor:
    """Mean cross entropy of scale * cosine(image, class). target_BC: float32, rows that sum to 1.

    The logits are divided by the lengths of the head's rows, not the rows themselves: with D in the thousands that
    takes a third of a step.
    """
    length_C = torch.linalg.vecdot(head_CD, head_CD).clamp_min(1e-24).sqrt()
    logits_BC = scale * (F.normalize(image_BD, dim=1) @ head_CD.T) / length_C
    return F.cross_entropy(logits_BC, target_BC if weight_C is None else target_BC * weight_C)
