"""The class loss: images against the prompts of the classes of each task, as evaluation scores them.

A retrieved pair knows the classes that it matched, so their prompts are further texts of the pair, and the other
classes of the task are its hard negatives. Takes the features of a batch and ClassTargets; gives a scalar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ClassTargets:
    """The C classes of all tasks."""

    vector_CD: np.ndarray  # float32, unit norm: the mean of each class's prompts
    task_C: np.ndarray  # int64: the number of the class's task; -1 = left out, a name that its task already has


def class_loss(
    image_BD: Tensor,
    class_CD: Tensor,
    task_C: Tensor,
    logit_scale: Tensor,
    target_BC: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross entropy with a softmax over the classes of each task, summed over classes and rows, divided by B.

    class_CD, task_C: as in ClassTargets. target_BC: float32, of `target_matrix`. weights: float32 [B], factors of the
    rows. Averaged over ranks, the gradient is that of the global batch; since the classes are fixed, it needs no other
    rank.
    """
    with torch.autocast(image_BD.device.type, enabled=False):
        logits_BC = logit_scale.float().exp() * F.normalize(image_BD.float(), dim=-1) @ F.normalize(class_CD, dim=-1).T
        loss_B = logits_BC.new_zeros(len(image_BD))
        for task in task_C[task_C >= 0].unique():
            columns = (task_C == task).nonzero()[:, 0]
            loss_B = loss_B - (target_BC[:, columns] * logits_BC[:, columns].log_softmax(1)).sum(1)
        return (loss_B if weights is None else loss_B * weights).sum() / len(image_BD)


def target_matrix(class_id_B: np.ndarray, matched: Sequence[dict[int, float]], task_C: np.ndarray) -> np.ndarray:
    """Returns float32 [B, C]: the shares of the classes of each task, times the weight of the pair in this task.

    class_id_B: the class of each pair, -1 = none; it is the whole target where `matched` is empty. matched: class ->
    weight in (0, 1], of all classes that a pair matched. Within a task, classes have shares in proportion to their
    weights; the largest of them is the weight of the pair in the task. A pair that matches classes of two tasks equally
    well counts as a whole in both, and a poor match in a second task counts for little.
    """
    target_BC = np.zeros((len(class_id_B), len(task_C)), np.float32)
    for row, class_id in enumerate(class_id_B.tolist()):
        for number, weight in (matched[row] if len(matched) and matched[row] else {class_id: 1.0}).items():
            if number >= 0:
                target_BC[row, number] = weight
    for task in np.unique(task_C[task_C >= 0]):
        columns = np.flatnonzero(task_C == task)
        of_task = target_BC[:, columns]
        total = of_task.sum(axis=1, keepdims=True)
        target_BC[:, columns] = of_task / np.where(total > 0, total, 1) * of_task.max(axis=1, keepdims=True)
    return target_BC
