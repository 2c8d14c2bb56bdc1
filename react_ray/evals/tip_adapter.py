"""Tip-Adapter without training: labelled images beside the class prompts, as keys of a cache (arXiv 2207.09519).

Takes the vectors of labelled images, gives the Cache of training/cache.py with alpha and beta that suit them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from react_ray.evals.few_shot import hold_out
from react_ray.evals.linear_probe import SCALE
from react_ray.training.cache import SHOTS, Cache
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.scorer import ClassVectors

ALPHA, BETA = 1.0, 5.5  # published for all of its sets but ImageNet
ALPHAS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of a cache of SHOTS images per class
BETAS = (1.0, 2.0, 3.5, 5.5, 8.0, 12.0, 20.0, 30.0)


def tip_adapter(image_ND: np.ndarray, label_N: np.ndarray, text_CD: np.ndarray) -> Cache:
    """Chooses alpha and beta on a part of these images that is held out; then all of them are keys.

    image_ND: float16 or float32 unit rows, all finite. label_N: int, positions among the classes. text_CD: float32 unit
    rows. Of equal accuracies on the held-out images the smallest alpha counts, then the smallest beta. Of one image per
    class nothing can be held out, and alpha and beta are the published ones: alpha weighs the sum over keys there, and
    the mean over a class's keys times SHOTS here, hence the factor.
    """
    train, held = hold_out(label_N)
    cache = Cache(ClassVectors(text_CD), LabelledVectors.of_one_class(image_ND, label_N), SCALE, ALPHA / SHOTS, BETA)
    if not len(held):
        return cache
    keys = LabelledVectors.of_one_class(image_ND[train], label_N[train])
    prompts_NC = SCALE * cache.prompts(image_ND[held])
    found = []
    for beta in BETAS:
        affinity_NC = replace(cache, keys=keys, beta=beta).affinity(image_ND[held])
        for alpha in ALPHAS:
            predicted = (prompts_NC + alpha * SHOTS * affinity_NC).argmax(axis=1)
            found.append((-float((predicted == label_N[held]).mean()), alpha, beta))
    _, alpha, beta = min(found)
    return replace(cache, alpha=alpha, beta=beta)
