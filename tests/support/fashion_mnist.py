"""Fashion-MNIST: 70,000 photos of clothes (28 x 28, MIT licence), from Debian's package dataset-fashion-mnist."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from tests.support import debian_package

PACKAGE = "dataset-fashion-mnist"
CLASSES = (
    "t-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def fetch(folder: Path) -> str:
    """Downloads and unpacks the package; returns why that was not possible, or ""."""
    return debian_package.fetch(PACKAGE, folder)


def read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, 28, 28] and int64 [N]; part: "train" (60,000 images) or "t10k"."""
    place = folder / "usr/share/datasets/fashion-mnist"
    images = gzip.decompress((place / f"{part}-images-idx3-ubyte.gz").read_bytes())  # after 16 bytes of header
    labels = gzip.decompress((place / f"{part}-labels-idx1-ubyte.gz").read_bytes())  # after 8
    return (
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=8).astype(np.int64),
    )
