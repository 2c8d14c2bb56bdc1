"""Ranks and recalls of retrieval between images and captions, beside CLIP_benchmark's on the same vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from react_ray.evals.image_text import Ranks, rank, recalls, recalls_of_images
from react_ray.vectors import unit_rows


def drawn(num_images: int, num_texts: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, captions near their images, and the image of each caption: every image has one at least."""
    rng = np.random.default_rng(seed)
    image_ND = rng.normal(size=(num_images, 16))
    owner_T = rng.permutation(np.concatenate([np.arange(num_images), rng.integers(num_images, size=num_texts)]))
    text_TD = image_ND[owner_T] + 1.5 * rng.normal(size=(len(owner_T), 16))
    return unit_rows(image_ND), unit_rows(text_TD), owner_T


def test_the_recalls_are_those_of_clip_benchmark() -> None:
    theirs = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
    image_ND, text_TD, owner_T = drawn(40, 120)
    score_TN = torch.from_numpy(text_TD.astype(np.float64) @ image_ND.astype(np.float64).T)
    positive_TN = torch.zeros_like(score_TN, dtype=torch.bool)
    positive_TN[torch.arange(len(owner_T)), torch.from_numpy(owner_T)] = True
    for metric, value, num in recalls(rank(image_ND, text_TD, owner_T)):
        found, k = metric.split("_retrieval_recall@")
        score, positive = (score_TN, positive_TN) if found == "image" else (score_TN.T, positive_TN.T)
        each = theirs.batchify(theirs.recall_at_k, score, positive, 32, "cpu", k=int(k))
        assert num == len(score) and value == pytest.approx((each > 0).double().mean().item(), abs=1e-12)
        assert 0.1 < value < 1


def test_recalls_of_resampled_images_have_their_captions_as_often() -> None:
    image_ND, text_TD, owner_T = drawn(20, 30)
    ranks = rank(image_ND, text_TD, owner_T)
    weight_N = np.bincount(np.random.default_rng(4).integers(0, 20, 20), minlength=20)
    found = recalls_of_images(ranks, owner_T, 20)
    again = Ranks(np.repeat(ranks.image_T, weight_N[owner_T]), np.repeat(ranks.text_N, weight_N))
    for (_, value, _), (_, drawn_value, _), one in zip(recalls(ranks), recalls(again), found, strict=True):
        assert one.metric(np.stack([np.ones(20, int), weight_N])) == pytest.approx([value, drawn_value])


def test_ranks_do_not_depend_on_blocks_or_order() -> None:
    image_ND, text_TD, owner_T = drawn(23, 40, 1)
    image_ND[7], text_TD[5] = image_ND[11], text_TD[6]  # ties, whose scores are equal to the last bit
    whole = rank(image_ND, text_TD, owner_T)
    order_T, order_N = np.random.default_rng(2).permutation(len(text_TD)), np.random.default_rng(3).permutation(23)
    place_N = np.argsort(order_N)
    other = rank(image_ND[order_N], text_TD[order_T], place_N[owner_T[order_T]], rows_at_once=5)
    assert (whole.image_T[order_T] == other.image_T).all() and (whole.text_N[order_N] == other.text_N).all()


def test_equal_scores_count_against_the_model() -> None:
    one = np.zeros((4, 16), np.float16)
    one[:, 0] = 1
    same = rank(one, one[:3].repeat(2, axis=0)[:5], np.array([0, 0, 1, 2, 3]))
    assert same.image_T.tolist() == [3] * 5
    assert same.text_N.tolist() == [3, 4, 4, 4]  # two captions of the first image are its own


def test_an_image_that_cannot_be_read_is_never_found_and_finds_nothing() -> None:
    image_ND = np.eye(4, 16, dtype=np.float16)
    image_ND[2] = np.nan
    found = rank(image_ND, np.eye(4, 16, dtype=np.float16), np.arange(4))
    assert found.image_T.tolist() == [0, 0, 4, 0] and found.text_N.tolist() == [0, 0, 4, 0]
    assert recalls(found)[0] == ("image_retrieval_recall@1", 0.75, 4)


def test_the_best_of_several_captions_counts() -> None:
    image_ND = np.eye(2, 16, dtype=np.float16)
    text_TD = unit_rows(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 1.5]]) @ np.eye(2, 16))
    found = rank(image_ND, text_TD, np.array([0, 0, 1]))
    assert found.text_N.tolist() == [0, 1]  # the second image is nearer to a caption of the first
    assert found.image_T.tolist() == [1, 0, 0]
