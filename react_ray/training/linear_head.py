"""Trains a linear head on stored image vectors, started from the class prompts (REAL, arXiv 2401.12425).

The head has one unit vector per class and replaces the zero-shot classifier. No model runs, so it trains in seconds
where gated blocks take hours: it is the baseline that they have to beat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from react_ray.clip.weights import read_info, read_weights, weights_bytes
from react_ray.errors import BackboneError, ConfigError
from react_ray.gated.config import CustomizeConfig
from react_ray.training.schedule import learning_rate

HEAD_FILE = "head.safetensors"


def train_head(
    image_ND: np.ndarray,
    class_id_N: np.ndarray,
    start_CD: np.ndarray,
    config: CustomizeConfig,
    seed: int,
    class_weight_C: np.ndarray | None = None,
    show: Callable[[int, int, float], None] | None = None,
) -> np.ndarray:
    """Returns float32 [C, D], unit rows. Softmax of head_scale * cosine; AdamW, epochs, batch size and schedule as in
    the recipe.

    image_ND: float16 or float32, unit rows. class_id_N: int in 0 .. C - 1. start_CD: float32, the classes' prompts.
    class_weight_C: the factor of each class's images. show: is called with (step, steps, loss).
    """
    if not len(image_ND):
        raise ConfigError(
            "customize.method=linear: no retrieved pair has both a class and an image vector; retrieve more"
        )
    images, labels = torch.from_numpy(image_ND), torch.from_numpy(class_id_N.astype(np.int64))
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
    steps = max(1, round(config.epochs * per_epoch))
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        place = step % per_epoch
        if place == 0:
            order = torch.randperm(len(images), generator=generator)
        rows = order[place * size : (place + 1) * size]
        for group in optimizer.param_groups:
            group["lr"] = config.lr * learning_rate(step, steps, config)
        loss = head_loss(images[rows].float(), labels[rows], head_CD, config.head_scale, weight_C)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if show:
            show(step + 1, steps, float(loss.detach()))
    return F.normalize(head_CD.detach(), dim=1).numpy()


def head_loss(
    image_BD: Tensor, class_id_B: Tensor, head_CD: Tensor, scale: float, weight_C: Tensor | None = None
) -> Tensor:
    """Mean cross entropy of scale * cosine(image, class)."""
    logits_BC = scale * F.normalize(image_BD, dim=1) @ F.normalize(head_CD, dim=1).T
    loss_B = F.cross_entropy(logits_BC, class_id_B, reduction="none")
    return (loss_B if weight_C is None else loss_B * weight_C[class_id_B]).mean()


def head_bytes(head_CD: np.ndarray, start_CD: np.ndarray, info: dict[str, Any]) -> bytes:
    """The file head.safetensors: the trained head, and the prompts that it started from, for interpolation."""
    tensors = {"head": torch.from_numpy(head_CD), "start": torch.from_numpy(start_CD.astype(np.float32))}
    return weights_bytes(tensors, info)


def load_head(path: str, wise_ft: float = 1.0) -> tuple[np.ndarray, dict[str, Any]]:
    """(the head, float32 [C, D] with unit rows; info). wise_ft: 1 = as trained, 0 = the class prompts."""
    state = read_weights(path)
    if set(state) != {"head", "start"}:
        raise BackboneError(
            f"{path} is no linear head; name the {HEAD_FILE} of a model made by customize.method=linear"
        )
    head_CD = torch.lerp(F.normalize(state["start"], dim=1), state["head"], wise_ft)
    return F.normalize(head_CD, dim=1).numpy(), read_info(path)
