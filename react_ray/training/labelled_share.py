"""How often each labelled image is in an epoch, so that labelled images have their share beside the retrieved pairs.

Takes class ids, gives a count for each image. Next: stages/training/mixed_rows.py for towers, stored_vectors.py there
for linear heads.
"""

from __future__ import annotations

import numpy as np


def copies(class_id_N: np.ndarray, num_pairs: int, share: float) -> np.ndarray:
    """Returns int64 [N], 1 or more: the number of times that each image is in an epoch.

    The images become `share` of the epoch, and each class gets an equal part of that, which goes round its images in
    their order. No image is left out: where the share has room for fewer than there are, each is there once.
    class_id_N: int, 0 or more. num_pairs: the retrieved pairs of the epoch. share: in (0, 1]; 1 = no pair is in it.
    """
    if not len(class_id_N):
        return np.zeros(0, np.int64)
    wanted = len(class_id_N) if share == 1 else round(share / (1 - share) * num_pairs)
    classes, class_N, size_C = np.unique(class_id_N, return_inverse=True, return_counts=True)
    ends = np.round(np.arange(len(classes) + 1) * max(wanted, len(class_id_N)) / len(classes))
    quota_N = np.diff(ends)[class_N]
    order = np.argsort(class_N, kind="stable")
    nth_N = np.empty(len(class_N), np.int64)
    nth_N[order] = np.arange(len(class_N)) - np.repeat(np.cumsum(size_C) - size_C, size_C)
    size_N = size_C[class_N]
    return np.maximum(1, np.floor(quota_N * (nth_N + 1) / size_N) - np.floor(quota_N * nth_N / size_N)).astype(np.int64)
