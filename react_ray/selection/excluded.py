"""The pairs that a recipe never retrieves, by retrieve.exclude."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from react_ray.index.deleted import read_ids


def excluded_pairs(exclude: Sequence[int | str]) -> np.ndarray:
    """exclude: pair_ids, and URIs of text files with one a line. Returns int64, sorted, each once. ConfigError for a
    file with anything else in it."""
    files = [read_ids(one) for one in exclude if isinstance(one, str)]
    return np.unique(np.concatenate([np.array([one for one in exclude if isinstance(one, int)], np.int64), *files]))
