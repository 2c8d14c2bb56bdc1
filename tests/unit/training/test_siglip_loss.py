"""The sigmoid loss against open_clip's own SigLipLoss, in one process and over two ranks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from open_clip.loss import SigLipLoss
from torch import Tensor

from react_ray.clip.weights import write_whole
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.method import logit_bias, prepare
from react_ray.gated.models import create_model_and_transforms
from react_ray.training.batches import Batch
from react_ray.training.optim import param_groups
from react_ray.training.siglip_loss import sigmoid_loss
from react_ray.training.step import TrainingStep
from tests.support.tiny_clip import tiny_backbone

NUM_ROWS, DIM = 12, 8


def leaves() -> list[Tensor]:
    """Features of images and texts that are not normalised, a logarithm of a scale, and a bias, as SigLIP begins."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(NUM_ROWS, DIM, generator=generator) for _ in range(2)]
    return [one.requires_grad_() for one in (*features, torch.full((1,), math.log(10)), torch.full((1,), -10.0))]


def theirs(given: list[Tensor], rank: int = 0, world_size: int = 1) -> Tensor:
    image, text, scale, bias = given
    loss = SigLipLoss(rank=rank, world_size=world_size)
    return loss(F.normalize(image, dim=-1), F.normalize(text, dim=-1), scale.exp(), bias)


@pytest.mark.parametrize("chunk_rows", [0, 1, 5])
def test_the_loss_and_its_gradients_are_those_of_open_clip(chunk_rows: int) -> None:
    given = leaves()
    expected, found = theirs(given), sigmoid_loss(*given, chunk_rows=chunk_rows)
    torch.testing.assert_close(found[None], expected[None] if not expected.ndim else expected, atol=0, rtol=1e-6)
    gradients = torch.autograd.grad(3 * expected.sum(), given)
    for mine, other in zip(torch.autograd.grad(3 * found, given), gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


def run_rank(rank: int, world_size: int, folder: str) -> None:
    """Writes, on rank 0, the loss and gradients of both, each as data-parallel averaging leaves them."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    size, results = NUM_ROWS // world_size, []
    for ours in (True, False):
        given = leaves()
        rows = slice(rank * size, (rank + 1) * size)
        local = [given[0][rows], given[1][rows], *given[2:]]
        loss = sigmoid_loss(*local) if ours else theirs(local, rank, world_size).sum()
        loss.backward()
        found = [loss.detach(), *(leaf.grad for leaf in given)]
        for value in found:
            dist.all_reduce(value)
            value /= world_size
        results.append(found)
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()


def test_two_ranks_leave_the_gradients_of_open_clips_ranks_and_of_one_process(tmp_path: Path) -> None:
    mp.spawn(run_rank, args=(2, str(tmp_path)), nprocs=2)
    ours, others = torch.load(tmp_path / "results.pt")
    given = leaves()
    loss = sigmoid_loss(*given)
    alone = [loss, *torch.autograd.grad(loss, given)]
    for mine, other, single in zip(ours, others, alone, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(mine, single, atol=1e-6, rtol=1e-5)


def test_repeated_captions_are_left_out_and_weights_count_for_both_sides() -> None:
    image, text, scale, bias = given = leaves()
    caption_ids = torch.tensor([0, 1, 2, 3, 1, 5, 6, 0, 8, 9, 9, 11])
    weights = torch.linspace(0.5, 1.5, NUM_ROWS)
    logits = scale.exp() * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T + bias
    terms = []
    for i in range(NUM_ROWS):
        for j in range(NUM_ROWS):
            if i == j or caption_ids[i] != caption_ids[j]:
                terms.append(-F.logsigmoid((1 if i == j else -1) * logits[i, j]) * (weights[i] + weights[j]) / 2)
    expected = torch.stack(terms).sum() / NUM_ROWS
    found = sigmoid_loss(*given, caption_ids=caption_ids, weights=weights, chunk_rows=5)
    torch.testing.assert_close(found, expected)
    for mine, other in zip(torch.autograd.grad(found, given), torch.autograd.grad(expected, given), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", ["locked-text", "full", "gated-image"])
def test_a_model_with_a_logit_bias_trains_by_the_sigmoid_loss_and_its_bias_with_it(tmp_path: Path, method: Any) -> None:
    backbone = tiny_backbone(tmp_path, siglip=True)
    settings = CustomizeConfig(method=method, batch_size=4, last_k_layers=1, lr=0.1, gate_lr_scale=1)
    assert "logit_bias" in prepare(backbone.model, settings, seed=0)
    bias = backbone.model.get_parameter("logit_bias")
    groups = {group["name"]: group["params"] for group in param_groups(backbone.model, settings)}
    assert any(parameter is bias for parameter in groups["no_decay"]) and logit_bias(backbone.model) is bias
    generator = np.random.default_rng(0)
    batch = Batch(
        step=0,
        epoch=0,
        image_BCHW=generator.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8),
        captions=["a heron", "an ibis", "a stork", "an egret"],
        caption_id_B=np.arange(4),
        class_id_B=np.full(4, -1),
        pair_id_B=np.arange(4),
        text_BD=generator.standard_normal((4, 16)).astype(np.float16),
    )
    loss = TrainingStep(backbone, settings, seed=0)(batch)
    loss.backward()
    with torch.no_grad():
        image = backbone.model.encode_image(backbone.normalize(torch.from_numpy(batch.image_BCHW)))  # type: ignore[operator]
        text = torch.from_numpy(batch.text_BD).float()  # type: ignore[arg-type]
        if method == "full":
            text = backbone.model.encode_text(backbone.tokenizer(batch.captions))  # type: ignore[operator]
        expected = theirs([image, text, *(backbone.model.get_parameter(f"logit_{n}") for n in ("scale", "bias"))])
    torch.testing.assert_close(loss.detach(), expected.reshape(()))
    assert bias.grad is not None and bias.grad.abs().item() > 0


@pytest.mark.parametrize("method", ["locked-text", "gated-image"])
def test_the_trained_scale_and_bias_are_in_the_models_file(tmp_path: Path, method: Any) -> None:
    backbone = tiny_backbone(tmp_path, vocab_size=8, siglip=True)
    prepare(backbone.model, CustomizeConfig(method=method, last_k_layers=1), seed=0)
    for name, value in (("logit_scale", math.log(117)), ("logit_bias", -12.9)):
        backbone.model.get_parameter(name).data.fill_(value)
    path, info = str(tmp_path / "trained.safetensors"), {"backbone_config": backbone.config.model_dump(), "seed": 0}
    write_whole(path, gated_bytes(backbone.model, info, dtype=torch.float32))
    loaded, *_ = create_model_and_transforms(backbone.config.name, path)
    for name in ("logit_scale", "logit_bias"):
        assert torch.equal(loaded.get_parameter(name), backbone.model.get_parameter(name))
