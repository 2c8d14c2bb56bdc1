"""The class loss against its definition written out row by row, and its gradient over several ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from react_ray.training.class_loss import class_loss, target_matrix

TASK_C = np.array([0, 0, 0, 1, 1])
CLASS_CD, SCALE = torch.randn(5, 8, generator=torch.Generator().manual_seed(1)), torch.tensor(1.5)


def images(rows: int) -> Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(0))


def loss(
    image_BD: Tensor, class_id_B: list[int], matched: list[dict[int, float]], task_C: np.ndarray = TASK_C
) -> Tensor:
    target_BC = torch.from_numpy(target_matrix(np.array(class_id_B), matched, task_C))
    return class_loss(image_BD, CLASS_CD, torch.from_numpy(task_C), SCALE, target_BC)


def log_p(image_D: Tensor, classes: list[int]) -> dict[int, Tensor]:
    """The log of the softmax over these classes alone, by class."""
    logits = SCALE.exp() * F.normalize(CLASS_CD[classes], dim=-1) @ F.normalize(image_D, dim=-1)
    return dict(zip(classes, logits.log_softmax(0), strict=True))


def test_one_class_is_the_cross_entropy_over_the_classes_of_its_task() -> None:
    image_BD = images(4)
    expected = -(log_p(image_BD[0], [0, 1, 2])[2] + log_p(image_BD[2], [3, 4])[3]) / 4
    torch.testing.assert_close(loss(image_BD, [2, -1, 3, -1], []), expected)
    torch.testing.assert_close(loss(image_BD, [2, -1, 3, -1], [{2: 1.0}, {}, {3: 1.0}, {}]), expected)


def test_all_classes_that_a_pair_matched_share_its_target_and_it_counts_in_each_task() -> None:
    image_BD = images(2)
    own, other = log_p(image_BD[0], [0, 1, 2]), log_p(image_BD[0], [3, 4])
    expected = -(0.8 * own[0] + 0.2 * own[2] + 0.5 * other[4]) / 2
    torch.testing.assert_close(loss(image_BD, [0, -1], [{0: 1.0, 2: 0.25, 4: 0.5}, {}]), expected)


def test_a_second_class_of_one_name_is_no_negative_of_the_first() -> None:
    image_BD = images(1)
    task_C = np.array([0, 0, -1, 1, 1])
    torch.testing.assert_close(loss(image_BD, [0], [], task_C), -log_p(image_BD[0], [0, 1])[0])


def test_the_classes_of_another_task_change_nothing() -> None:
    one = loss(images(3), [0, 1, 2], [])
    many = class_loss(
        images(3),
        torch.cat([CLASS_CD, CLASS_CD]),
        torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 3]),
        SCALE,
        torch.from_numpy(target_matrix(np.arange(3), [], np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3]))),
    )
    torch.testing.assert_close(many, one)


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_mean_of_the_gradients_of_ranks_is_that_of_the_global_batch(world_size: int) -> None:
    class_id_B = [0, 1, -1, 3, 4, 2]
    matched = [{0: 1.0, 3: 0.5}, {0: 0.9, 1: 1.0}, {}, {3: 1.0}, {2: 1.0, 4: 1.0}, {}]
    whole = images(6).requires_grad_()
    loss(whole, class_id_B, matched).backward()
    parts = images(6).requires_grad_()
    local = 6 // world_size
    for rank in range(world_size):
        mine = slice(rank * local, (rank + 1) * local)
        (loss(parts[mine], class_id_B[mine], matched[mine]) / world_size).backward()
    assert whole.grad is not None and parts.grad is not None
    torch.testing.assert_close(parts.grad, whole.grad)
