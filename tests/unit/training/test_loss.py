from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

from react_ray.training.loss import Bank, class_loss, contrastive_loss
from tests.support.loss_rank import Case, gradients, problem, run_rank

CASES: list[Case] = [
    (text_trains, mask, positives, chunk_rows)
    for text_trains in (False, True)
    for mask, positives in ((False, "pair"), (True, "pair"), (True, "class"))
    for chunk_rows in (0, 4)
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


@pytest.mark.parametrize("positives", ["pair", "class"])
@pytest.mark.parametrize("mask", [False, True])
def test_duplicates_and_classes_equal_a_loop_over_rows(mask: bool, positives: str) -> None:
    given = problem()
    image, text = given["images"] @ given["image_weight"], given["texts"] @ given["text_weight"]
    logits = given["logit_scale"].exp() * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    caption, klass = given["caption_ids"].tolist(), given["class_ids"].tolist()
    terms = []
    for table in (logits, logits.T):
        for i in range(len(caption)):
            same = [j for j in range(len(klass)) if positives == "class" and klass[j] == klass[i] >= 0]
            positive = sorted({i, *same})
            kept = [j for j in range(len(caption)) if j in positive or not (mask and caption[j] == caption[i])]
            logp = table[i] - table[i, kept].logsumexp(0)
            terms.append(-logp[positive].mean())
    found = contrastive_loss(
        image,
        text,
        given["logit_scale"],
        caption_ids=given["caption_ids"],
        class_ids=given["class_ids"],
        mask_duplicates=mask,
        positives=positives,  # type: ignore[arg-type]
    )
    torch.testing.assert_close(found, torch.stack(terms).mean())


def plain_loss(given: dict[str, torch.Tensor], leaves: list[torch.Tensor], mask: bool, positives: str) -> torch.Tensor:
    """The definition with whole tables and torch's own gradients: weights, masks, classes and a bank."""
    image, text, scale = leaves
    image, text, bank = (F.normalize(x, dim=1) for x in (image, text, given["bank"]))
    klass, caption = given["class_ids"], given["caption_ids"]
    positive = torch.eye(len(klass), dtype=torch.bool)
    if positives == "class":
        positive |= (klass[:, None] == klass) & (klass >= 0)
    logits = scale.exp() * image @ text.T
    extra = scale.exp() * image @ bank.T
    if mask:
        logits = logits.masked_fill((caption[:, None] == caption) & ~positive, -torch.inf)
    extra = extra.masked_fill(caption[:, None] == given["bank_caption_ids"], -torch.inf)
    hit = logits.masked_fill(~positive, 0)
    rows = torch.cat([logits, extra], 1).logsumexp(1) - hit.sum(1) / positive.sum(1)
    columns = logits.logsumexp(0) - hit.sum(0) / positive.sum(0)
    return (given["weights"] * (rows + columns)).mean() / 2


@pytest.mark.parametrize("positives", ["pair", "class"])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("chunk_rows", [0, 1, 5])
def test_chunks_weights_and_bank_equal_the_definition_and_its_gradients(
    mask: bool, positives: str, chunk_rows: int
) -> None:
    given = problem()
    leaves = [given["images"] @ given["image_weight"], given["texts"] @ given["text_weight"], given["logit_scale"]]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    expected = plain_loss(given, leaves, mask, positives)
    found = contrastive_loss(
        *leaves,
        caption_ids=given["caption_ids"],
        class_ids=given["class_ids"],
        weights=given["weights"],
        mask_duplicates=mask,
        positives=positives,  # type: ignore[arg-type]
        bank=Bank(given["bank"], given["bank_caption_ids"]),
        chunk_rows=chunk_rows,
    )
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(3 * found, leaves), torch.autograd.grad(3 * expected, leaves), strict=True
    ):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("settings", [{"positives": "class"}, {"mask_classes": True}])
def test_a_bank_s_captions_of_an_image_s_own_class_are_no_negatives(settings: dict[str, Any]) -> None:
    given = problem()
    features = given["images"] @ given["image_weight"], given["texts"] @ given["text_weight"], given["logit_scale"]
    one_class = torch.zeros(len(given["images"]), dtype=torch.int64)
    of_bank = torch.arange(len(given["bank"])) % 3 - 1  # none, the pairs' own, another
    own_left_out = Bank(given["bank"][of_bank != 0])
    found, wanted, all_of_it = (
        contrastive_loss(*features, class_ids=one_class, bank=bank, **settings)
        for bank in (Bank(given["bank"], class_ids=of_bank), own_left_out, Bank(given["bank"]))
    )
    torch.testing.assert_close(found, wanted, atol=0, rtol=1e-6)
    assert found < all_of_it


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
    ids = torch.tensor([7, 7, 9])
    scale = torch.tensor([2.0])
    masked = contrastive_loss(image_BD, text_BD, scale, caption_ids=ids, mask_duplicates=True)
    assert masked < contrastive_loss(image_BD, text_BD, scale)


def test_pairs_of_one_class_can_be_left_out_of_the_negatives() -> None:
    given = problem()
    image, text = given["images"] @ given["image_weight"], given["texts"] @ given["text_weight"]
    logits = given["logit_scale"].exp() * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    klass = given["class_ids"]
    other = (klass[:, None] != klass[None]) | (klass < 0)[:, None] | torch.eye(len(klass), dtype=torch.bool)
    kept, target = logits.masked_fill(~other, -torch.inf), torch.arange(len(klass))
    expected = (F.cross_entropy(kept, target) + F.cross_entropy(logits.T.masked_fill(~other, -torch.inf), target)) / 2
    found = contrastive_loss(image, text, given["logit_scale"], class_ids=klass, mask_classes=True)
    torch.testing.assert_close(found, expected)


def test_ids_that_a_mode_needs_must_be_given() -> None:
    rows = torch.randn(2, 3)
    with pytest.raises(ValueError, match="caption_ids"):
        contrastive_loss(rows, rows, torch.tensor([1.0]), mask_duplicates=True)


def test_bf16_features_give_a_float32_loss() -> None:
    rows = torch.randn(4, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert contrastive_loss(rows, rows.flip(0), torch.tensor([1.0])).dtype == torch.float32


def test_class_loss_is_the_cross_entropy_of_rows_with_a_class() -> None:
    image_BD, class_CD = torch.randn(5, 8), torch.randn(3, 8)
    class_id_B, scale = torch.tensor([2, -1, 0, 1, -1]), torch.tensor([1.5])
    logits = scale.exp() * F.normalize(image_BD, dim=-1) @ F.normalize(class_CD, dim=-1).T
    expected = sum(-logits[row].log_softmax(0)[class_id_B[row]] for row in (0, 2, 3)) / 5
    torch.testing.assert_close(class_loss(image_BD, class_CD, scale, class_id_B), expected)
