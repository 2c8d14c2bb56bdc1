"""Linear probe: logistic regression on image vectors, whose head begins as the class prompts.

Takes the vectors of labelled images, gives a Scorer. Of images that show several classes, each class has a regression
of its own against all else, with one penalty for all. With the usual penalty the minimum does not depend on where the
head begins. The anchored probe draws the head towards the prompts instead of towards zero (L2-SP, arXiv 1802.01483), so
that few labels change what the model knew by little. Next: elevater_probe.py, the toolkit's way by SGD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from react_ray.evals.strength import search
from react_ray.evals.target import hold_out, judged, loss

SCALE = 100.0  # of a cosine in CLIP's logits
OF_ONE_SHOT = float(10**-1.5)  # CLIP's published C = 0.316 of its linear probe, for unit vectors instead of length 10
MOST_ITERATIONS = 1000  # as in CLIP's appendix A.3


@dataclass(frozen=True)
class LinearProbe:
    """A Scorer: image @ weight + bias, logits of the classes."""

    weight_CD: np.ndarray  # float32
    bias_C: np.ndarray  # float32
    l2: float

    def __call__(self, image_ND: np.ndarray) -> np.ndarray:
        """Sums are taken in float64, so that the result does not depend on how images are batched."""
        logits_NC = image_ND.astype(np.float64) @ self.weight_CD.astype(np.float64).T + self.bias_C
        return logits_NC.astype(np.float32)


def fit_swept(image_ND: np.ndarray, target: np.ndarray, start_CD: np.ndarray, anchored: bool = False) -> LinearProbe:
    """Chooses the penalty on a part of these images that is held out, then fits all of them.

    As `fit`. The penalty with the highest quality (target.py) wins, of equal ones that with the least loss. Of one
    image per class nothing can be held out: the penalty is OF_ONE_SHOT then.
    """
    train, held = hold_out(target)
    if not len(held):
        return fit(image_ND, target, start_CD, OF_ONE_SHOT, anchored)

    def judge(strengths: Sequence[float]) -> list[tuple[float, float]]:
        found = (fit(image_ND[train], target[train], start_CD, l2, anchored) for l2 in strengths)
        return [judged(probe(image_ND[held]), target[held]) for probe in found]

    l2, _ = search(judge)
    return fit(image_ND, target, start_CD, l2, anchored)


def fit(
    image_ND: np.ndarray, target: np.ndarray, start_CD: np.ndarray, l2: float, anchored: bool = False
) -> LinearProbe:
    """Minimises sum of cross entropies + l2 / 2 * |weight|^2 by L-BFGS, with a bias that is not penalised.

    That is scikit-learn's LogisticRegression(C=1 / l2). image_ND: float16 or float32, all finite. target: as in
    target.py. start_CD: float32 unit rows; the head begins between zero and SCALE * start_CD. anchored: penalise
    |weight - SCALE * start_CD|^2 instead, and |bias|^2 where classes exclude one another: a threshold for each class is
    nothing that prompts know.
    """
    assert np.isfinite(image_ND).all(), "draw passes over images without a vector"
    images_ND = torch.from_numpy(image_ND.astype(np.float32))
    targets = torch.from_numpy(target)
    # The mean is moved into the bias: vectors of CLIP point into one narrow cone, along which the loss is steep.
    mean_D = images_ND.mean(dim=0)
    images_ND = images_ND - mean_D
    start = SCALE * torch.from_numpy(start_CD.astype(np.float32))
    towards_CD = start if anchored else torch.zeros_like(start)
    begin_CD = start if anchored else start / (1 + l2)  # nearer to zero where the minimum is
    weight_CD = begin_CD.clone().requires_grad_()
    bias_C = (begin_CD @ mean_D).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight_CD, bias_C],
        max_iter=MOST_ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        cross_entropy = loss(torch.addmm(bias_C, images_ND, weight_CD.T), targets)
        distance = (weight_CD - towards_CD).square().sum()
        if anchored and target.ndim == 1:
            distance = distance + (bias_C - weight_CD @ mean_D).square().sum()  # without the mean in the bias
        total = cross_entropy + l2 / (2 * len(images_ND)) * distance
        total.backward()
        return total

    optimizer.step(objective)
    head_CD = weight_CD.detach()
    return LinearProbe(head_CD.numpy(), (bias_C.detach() - head_CD @ mean_D).numpy(), l2)
