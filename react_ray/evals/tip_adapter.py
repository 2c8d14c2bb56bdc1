"""Tip-Adapter without training: labelled images beside the class prompts, as keys of a cache (arXiv 2207.09519).

Takes the vectors of labelled images, gives the Cache of training/cache.py with alpha and beta that suit them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from react_ray.evals.linear_probe import SCALE
from react_ray.evals.metrics import log_softmax
from react_ray.evals.target import hold_out, quality
from react_ray.training.cache import SHOTS, Cache
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.scorer import ClassVectors

ALPHA, BETA = 1.0, 5.5  # published for all of its sets but ImageNet
ALPHAS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of a cache of SHOTS images per class
BETAS = (1.0, 2.0, 3.5, 5.5, 8.0, 12.0, 20.0, 30.0)


def tip_adapter(image_ND: np.ndarray, target: np.ndarray, text_CD: np.ndarray) -> Cache:
    """Chooses alpha and beta on a part of these images that is held out; then all of them are keys.

    image_ND: float16 or float32 unit rows, all finite. target: as in target.py; an image is a key of each of its
    classes. text_CD: float32 unit rows. Of equal qualities on the held-out images the smallest alpha counts, then the
    smallest beta. Of one image per class nothing can be held out, and alpha and beta are the published ones: alpha
    weighs the sum over keys there, and the mean over a class's keys times SHOTS here, hence the factor.
    """
    train, held = hold_out(target)
    cache = Cache(ClassVectors(text_CD), _keys(image_ND, target), SCALE, ALPHA / SHOTS, BETA)
    if not len(held):
        return cache
    keys = _keys(image_ND[train], target[train])
    prompts_NC = SCALE * cache.prompts(image_ND[held])
    found = []
    for beta in BETAS:
        affinity_NC = replace(cache, keys=keys, beta=beta).affinity(image_ND[held])
        for alpha in ALPHAS:
            logits_NC = prompts_NC + alpha * SHOTS * affinity_NC
            found.append((-quality(log_softmax(logits_NC, scale=1), target[held]), alpha, beta))
    _, alpha, beta = min(found)
    return replace(cache, alpha=alpha, beta=beta)


def _keys(image_ND: np.ndarray, target: np.ndarray) -> LabelledVectors:
    """An image of several classes is several rows."""
    row_K, label_K = (np.arange(len(target)), target) if target.ndim == 1 else np.nonzero(target)
    return LabelledVectors.of_one_class(image_ND[row_K], label_K)
