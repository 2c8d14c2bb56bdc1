"""The loss and its gradients against plain definitions, in one process and over several ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

from react_ray.training.loss import contrastive_loss
from tests.support.loss_rank import Case, gradients, problem, run_rank

CASES: list[Case] = [
    (text_trains, mask, chunk_rows) for text_trains in (False, True) for mask in (False, True) for chunk_rows in (0, 4)
]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_leave_the_gradients_of_one_process(tmp_path: Path, world_size: int) -> None:
    mp.spawn(run_rank, args=(world_size, str(tmp_path), CASES), nprocs=world_size)
    found = torch.load(tmp_path / "results.pt")
    for case, parallel in zip(CASES, found, strict=True):
        single = gradients(problem(), slice(None), case)
        assert parallel.keys() == single.keys()
        for name, value in single.items():
            assert (parallel[name] - value).abs().max() <= 1e-5 * value.abs().max(), (case, name)


def test_plain_loss_is_the_mean_cross_entropy_of_rows_and_columns() -> None:
    image_BD, text_BD = torch.randn(5, 4), torch.randn(5, 4)
    logits = 3.0 * F.normalize(image_BD, dim=1) @ F.normalize(text_BD, dim=1).T
    target = torch.arange(5)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    found = contrastive_loss(image_BD, text_BD, torch.tensor([3.0]).log())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mask", [False, True])
def test_masked_duplicates_equal_a_loop_over_rows(mask: bool) -> None:
    given = problem()
    image, text = given["images"] @ given["image_weight"], given["texts"] @ given["text_weight"]
    logits = given["logit_scale"].exp() * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    caption = given["caption_ids"].tolist()
    terms = []
    for table in (logits, logits.T):
        for i in range(len(caption)):
            kept = [j for j in range(len(caption)) if j == i or not (mask and caption[j] == caption[i])]
            terms.append(table[i, kept].logsumexp(0) - table[i, i])
    found = contrastive_loss(image, text, given["logit_scale"], caption_ids=given["caption_ids"] if mask else None)
    torch.testing.assert_close(found, torch.stack(terms).mean())


def plain_loss(given: dict[str, torch.Tensor], leaves: list[torch.Tensor], mask: bool) -> torch.Tensor:
    """The definition with whole tables and torch's own gradients, with weights and masks."""
    image, text, scale = leaves
    image, text = (F.normalize(x, dim=1) for x in (image, text))
    caption, own = given["caption_ids"], torch.eye(len(image), dtype=torch.bool)
    logits = scale.exp() * image @ text.T
    if mask:
        logits = logits.masked_fill((caption[:, None] == caption) & ~own, -torch.inf)
    rows, columns = logits.logsumexp(1) - logits.diag(), logits.logsumexp(0) - logits.diag()
    return (given["weights"] * (rows + columns)).mean() / 2


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("chunk_rows", [0, 1, 5])
def test_chunks_and_weights_equal_the_definition_and_its_gradients(mask: bool, chunk_rows: int) -> None:
    given = problem()
    leaves = [given["images"] @ given["image_weight"], given["texts"] @ given["text_weight"], given["logit_scale"]]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    expected = plain_loss(given, leaves, mask)
    found = contrastive_loss(
        *leaves,
        caption_ids=given["caption_ids"] if mask else None,
        weights=given["weights"],
        chunk_rows=chunk_rows,
    )
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(3 * found, leaves), torch.autograd.grad(3 * expected, leaves), strict=True
    ):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_what_is_kept_for_backward_does_not_grow_with_the_square_of_the_batch() -> None:
    sizes = {}
    for num_rows in (64, 512):
        image_BD = torch.randn(num_rows, 8, requires_grad=True)
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):  # type: ignore[misc]
            contrastive_loss(image_BD, torch.randn(num_rows, 8), torch.tensor([1.0]), chunk_rows=16)
        sizes[num_rows] = sum(kept)
    assert 0 < sizes[512] <= 8 * sizes[64]


def test_a_repeated_caption_is_no_negative_of_its_twin() -> None:
    image_BD = torch.eye(3)
    text_BD = image_BD[[0, 0, 2]].clone().requires_grad_()
    scale = torch.tensor([2.0])
    masked = contrastive_loss(image_BD, text_BD, scale, caption_ids=torch.tensor([7, 7, 9]))
    assert masked < contrastive_loss(image_BD, text_BD, scale)


def test_bf16_features_give_a_float32_loss() -> None:
    rows = torch.randn(4, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert contrastive_loss(rows, rows.flip(0), torch.tensor([1.0])).dtype == torch.float32
