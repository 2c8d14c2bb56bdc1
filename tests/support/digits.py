"""Scikit-learn's 1,797 handwritten digits as unit vectors of 64 pixels, with class vectors that know something of
them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits


class Digits(NamedTuple):
    train_ND: np.ndarray  # float32, unit rows
    train_label_N: np.ndarray
    test_ND: np.ndarray
    test_label_N: np.ndarray
    text_CD: np.ndarray  # float32, unit rows: noisy means, which classify some 80 % of the images


CLASSES = [str(digit) for digit in range(10)]


@cache
def digits() -> Digits:
    pixels_ND, label_N = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    order = random.permutation(len(label_N))
    image_ND, label_N = unit(pixels_ND)[order], label_N[order]
    means_CD = np.stack([image_ND[:900][label_N[:900] == digit].mean(axis=0) for digit in range(10)])
    text_CD = unit(means_CD + random.normal(size=means_CD.shape, scale=0.06))
    return Digits(image_ND[:900], label_N[:900], image_ND[900:], label_N[900:], text_CD)


def unit(vectors_ND: np.ndarray) -> np.ndarray:
    return (vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)).astype(np.float32)
