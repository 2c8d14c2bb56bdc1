"""The linear probe of the ELEVATER toolkit: batch normalisation and a linear head, trained by SGD from the class
prompts.

Takes the vectors of labelled images, gives the head after each epoch. Facts of the toolkit (Elevater_Toolkit_IC,
evaluation/full_model_finetune.py): normalisation without weights, momentum 0.9, 64 images to a batch, a constant
learning rate, six rates times a search over 97 weight decays with 10 epochs each and the best epoch on the held-out
images, and 50 epochs on all images with the best pair; of images that show several classes (VOC 2007) the loss is the
mean of binary cross entropies, and the metric the 11-point mAP. Its result is the best epoch on the test set; the last
epoch is the honest one. Here image vectors are unit rows, and the batches' order comes from the recipe's seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from react_ray.evals.strength import search
from react_ray.evals.target import first_of_each, has_collapsed, hold_out, quality

LEARNING_RATES = tuple(10.0**exponent for exponent in range(-6, 0))
OF_ONE_SHOT = (1e-3, 1e-4)  # rate and weight decay of the toolkit's configuration, which it takes without a sweep
SWEEP_EPOCHS, EPOCHS = 10, 50
MOST_SWEPT = 10_000  # images of a class; of the toolkit's sets only PatchCamelyon has more, and it sweeps on as many
BATCH_SIZE = 64
MOMENTUM = 0.9


@dataclass(frozen=True)
class Trained:
    logits_ENC: np.ndarray  # float32, of the test images after each epoch
    learning_rate: float
    weight_decay: float
    collapsed: bool  # at the end the training images are classified worse than by the prompts that training began from


def train_swept(
    image_ND: np.ndarray, target: np.ndarray, start_CD: np.ndarray, test_ND: np.ndarray, seed: int
) -> Trained:
    """Chooses rate and weight decay on held-out training images, then trains on all of them.

    image_ND, test_ND: float16 or float32. target: as in target.py. start_CD: float32 unit rows. With one image per
    class there is nothing to choose by: OF_ONE_SHOT is taken. A rate whose weights become no numbers in the sweep
    counts as the worst, as in the toolkit.
    """
    images_ND, tests_ND = (torch.from_numpy(values.astype(np.float32)) for values in (image_ND, test_ND))
    start = torch.from_numpy(start_CD.astype(np.float32))
    targets = torch.from_numpy(target)
    rate, decay = _sweep(images_ND, targets, start, seed)
    seen: list[Tensor] = []
    on_train: list[Tensor] = []

    def watch(classify: Callable[[Tensor], Tensor]) -> None:
        seen.append(classify(tests_ND)[0])
        on_train.append(classify(images_ND)[0])

    _train(images_ND, targets, start, rate, [decay], seed, EPOCHS, watch)
    collapsed = has_collapsed((images_ND @ start.T).numpy(), on_train[-1].numpy(), target)
    return Trained(torch.stack(seen).numpy(), rate, decay, collapsed)


def _sweep(images_ND: Tensor, targets: Tensor, start_CD: Tensor, seed: int) -> tuple[float, float]:
    swept = torch.from_numpy(first_of_each(targets.numpy(), MOST_SWEPT))
    images_ND, targets = images_ND[swept], targets[swept]
    train, held = (torch.from_numpy(rows) for rows in hold_out(targets.numpy()))
    if not len(held):
        return OF_ONE_SHOT
    best, judgement = OF_ONE_SHOT, tuple[float, ...]()
    for rate in LEARNING_RATES:

        def judge(decays: Sequence[float], rate: float = rate) -> list[tuple[float]]:
            best_of = [0.0] * len(decays)

            def watch(classify: Callable[[Tensor], Tensor]) -> None:
                for run, logits_NC in enumerate(classify(images_ND[held]).numpy()):
                    best_of[run] = max(best_of[run], quality(logits_NC, targets[held].numpy()))

            _train(images_ND[train], targets[train], start_CD, rate, decays, seed, SWEEP_EPOCHS, watch)
            return [(found,) for found in best_of]

        decay, found = search(judge)
        if found > judgement:
            best, judgement = (rate, decay), found
    return best


def _train(
    images_ND: Tensor,
    targets: Tensor,
    start_CD: Tensor,
    rate: float,
    decays: Sequence[float],
    seed: int,
    epochs: int,
    watch: Callable[[Callable[[Tensor], Tensor]], None],
) -> None:
    """Trains one head for each of R weight decays, all on the same batches. A last batch of one image is left out.

    watch: called after each epoch with a function from images [N, D] to logits [R, N, C].
    """
    num_runs, (num_classes, dim) = len(decays), start_CD.shape
    normalise = nn.BatchNorm1d(dim, affine=False)
    weight_RDC = start_CD.T.repeat(num_runs, 1, 1)
    bias_R1C = torch.zeros(num_runs, 1, num_classes)
    decay_R11 = torch.tensor(list(decays)).reshape(-1, 1, 1)
    momenta = [torch.zeros_like(weight_RDC), torch.zeros_like(bias_R1C)]
    generator = torch.Generator().manual_seed(seed)

    def classify(images_BD: Tensor) -> Tensor:
        normalise.eval()
        return normalise(images_BD) @ weight_RDC + bias_R1C

    for _ in range(epochs):
        normalise.train()
        for rows in torch.randperm(len(images_ND), generator=generator).split(BATCH_SIZE):
            if len(rows) == 1:
                continue
            images_BD = normalise(images_ND[rows])
            error_RBC = _gradient(images_BD @ weight_RDC + bias_R1C, targets[rows])
            gradients = images_BD.T @ error_RBC, error_RBC.sum(dim=1, keepdim=True)
            for value, gradient, momentum in zip((weight_RDC, bias_R1C), gradients, momenta, strict=True):
                momentum.mul_(MOMENTUM).add_(gradient + decay_R11 * value)  # as torch.optim.SGD does
                value.sub_(momentum, alpha=rate)
        watch(classify)


def _gradient(logits_RBC: Tensor, targets: Tensor) -> Tensor:
    """Of the mean cross entropy of each run by its logits; of several classes, the mean over classes too."""
    if targets.ndim == 2:
        return (logits_RBC.sigmoid() - targets.to(logits_RBC.dtype)) / targets.numel()
    error_RBC = logits_RBC.softmax(dim=2)
    error_RBC[:, torch.arange(len(targets)), targets] -= 1
    return error_RBC / len(targets)
