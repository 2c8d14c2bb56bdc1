from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

from react_ray.gated.loss import class_loss, contrastive_loss
from tests.support.loss_rank import gradients, problem, run_rank

CASES = [
    (text_trains, mask, positives)
    for text_trains in (False, True)
    for mask, positives in ((False, "pair"), (True, "pair"), (True, "class"))
]


def test_two_ranks_leave_the_gradients_of_one_process(tmp_path: Path) -> None:
    mp.spawn(run_rank, args=(2, str(tmp_path), CASES), nprocs=2)
    found = torch.load(tmp_path / "results.pt")
    for case, parallel in zip(CASES, found, strict=True):
        single = gradients(problem(), slice(None), *case)
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
