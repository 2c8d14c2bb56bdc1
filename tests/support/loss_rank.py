"""One rank of a data-parallel training step, for spawning: it imports nothing but the loss."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from react_ray.training.loss import contrastive_loss

Case = tuple[bool, bool, int]  # the text tower trains, duplicate captions are masked, images at once
Gradients = dict[str, Tensor]


def problem(num_rows: int = 12) -> dict[str, Tensor]:
    """A toy model of two linear towers, and a global batch with repeated captions."""
    generator = torch.Generator().manual_seed(0)
    return {
        "image_weight": torch.randn(6, 8, generator=generator),
        "text_weight": torch.randn(5, 8, generator=generator),
        "logit_scale": torch.full((1,), 1.3),
        "images": torch.randn(num_rows, 6, generator=generator),
        "texts": torch.randn(num_rows, 5, generator=generator),
        "caption_ids": torch.tensor([0, 1, 2, 3, 1, 5, 6, 0, 8, 9, 9, 11])[:num_rows],
        "weights": torch.rand(num_rows, generator=generator) + 0.5,
    }


def gradients(given: dict[str, Tensor], rows: slice, case: Case) -> Gradients:
    """Loss and gradients of the rows that this process holds; with several images at once the rows have weights too."""
    text_trains, mask, chunk_rows = case
    names = ["image_weight", "logit_scale"] + (["text_weight"] if text_trains else [])
    leaves = {
        name: given[name].clone().requires_grad_(name in names)
        for name in ("image_weight", "text_weight", "logit_scale")
    }
    loss = contrastive_loss(
        given["images"][rows] @ leaves["image_weight"],
        given["texts"][rows] @ leaves["text_weight"],
        leaves["logit_scale"],
        caption_ids=given["caption_ids"][rows] if mask else None,
        weights=given["weights"][rows] if chunk_rows else None,
        chunk_rows=chunk_rows,
    )
    loss.backward()
    return {"loss": loss.detach()} | {name: leaves[name].grad.clone() for name in names}  # type: ignore[union-attr]


def run_rank(rank: int, world_size: int, folder: str, cases: list[Case]) -> None:
    """Writes, on rank 0, what DDP would leave in every process: the mean over ranks."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    given = problem()
    size = len(given["images"]) // world_size
    results = []
    for case in cases:
        found = gradients(given, slice(rank * size, (rank + 1) * size), case)
        for value in found.values():
            dist.all_reduce(value)
            value /= world_size
        results.append(found)
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()
