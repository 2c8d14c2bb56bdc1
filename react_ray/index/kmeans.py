"""Spherical k-means for the lists of an IVF, and the assignment of vectors to lists through two levels.

Takes unit vectors float32 [N, D]; gives centroids float32 [L, D] (float16 values) and list numbers int32 [N]. With 1,024 lists and more, centroids are
grouped, and a vector is compared with the centroids of its nearest groups only: for L lists in 4 * sqrt(L) groups
that is about 10 * sqrt(L) products instead of L. Results do not depend on threads or on how vectors come in blocks: what float32 cannot
settle is computed again as exact.py computes it. Next: quantizer.py.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np

ITERATIONS = 10  # of Lloyd; FAISS's default for IVF
GROUPS_PER_ROOT = 4  # groups / sqrt(lists): lists lie in few dense regions, and more groups than sqrt(lists) part these
GROUPS_TRIED = 5  # of the groups, per vector: they hold the nearest list of 99 % (tests/unit/index/test_kmeans.py)
GROUPS_TRIED_TRAINING = 2  # of 93 %
TWO_LEVELS_FROM = 1024  # lists; below, one matrix product costs less than its bookkeeping
ROWS_AT_ONCE = 16384
CLOSE = 2e-5  # two scores nearer than this are settled in float64: float32 errs by D * 2**-24 = 3e-5 at most, 1e-6 in practice


def train_centroids(sample_ND: np.ndarray, num_lists: int, seed: int, num_threads: int = 1) -> np.ndarray:
    """Lloyd's algorithm from random vectors of the sample; a list that lost all its vectors takes half of the largest."""
    assert 1 <= num_lists <= len(sample_ND), (num_lists, len(sample_ND))
    generator = np.random.default_rng(seed)
    first = np.sort(generator.choice(len(sample_ND), num_lists, replace=False))
    centroid_LD: np.ndarray = np.asarray(sample_ND, dtype=np.float32)[first]
    for _ in range(ITERATIONS):
        lists_N = Assigner(_unit(centroid_LD), GROUPS_TRIED_TRAINING).assign(sample_ND, num_threads)
        filled, members = _members(lists_N)
        centroid_LD = np.zeros_like(centroid_LD)
        for one, rows in zip(filled, members, strict=True):
            centroid_LD[one] = sample_ND[rows].sum(axis=0)
        largest = filled[np.argsort([-len(rows) for rows in members], kind="stable")]
        for empty, full in zip(np.setdiff1d(np.arange(num_lists), filled), largest, strict=False):
            nudge = generator.standard_normal(centroid_LD.shape[1], dtype=np.float32)
            centroid_LD[empty] = centroid_LD[full] * (1 + nudge / 1024)
            centroid_LD[full] = centroid_LD[full] * (1 - nudge / 1024)
    return _unit(centroid_LD)


class Assigner:
    """Nearest list of each vector. Changes nothing after construction: threads share it."""

    def __init__(self, centroid_LD: np.ndarray, groups_tried: int = GROUPS_TRIED) -> None:
        self.centroid_LD, self.groups_tried = centroid_LD, groups_tried
        num_lists = len(centroid_LD)
        self.groups: list[np.ndarray] = [np.arange(num_lists)]
        if num_lists >= TWO_LEVELS_FROM:
            num_groups = int(GROUPS_PER_ROOT * np.sqrt(num_lists))
            means = _unit(centroid_LD[:: num_lists // num_groups][:num_groups].copy())
            for _ in range(ITERATIONS):
                filled, members = _members((centroid_LD @ means.T).argmax(axis=1))
                means[filled] = [centroid_LD[one].sum(axis=0) for one in members]
                means = _unit(means)
            filled, self.groups = _members((centroid_LD @ means.T).argmax(axis=1))
            self.mean_GD = means[filled]
        self.blocks = [centroid_LD[group] for group in self.groups]

    def assign(self, vector_ND: np.ndarray, num_threads: int = 1) -> np.ndarray:
        """vectors float32 [N, D] holding float16 values. Returns int32 [N]."""
        starts = range(0, len(vector_ND), ROWS_AT_ONCE)
        found = _parallel(lambda first: self._assign(vector_ND[first : first + ROWS_AT_ONCE]), starts, num_threads)
        return np.concatenate([np.empty(0, np.int32), *found])

    def _assign(self, vector_ND: np.ndarray) -> np.ndarray:
        rows = np.arange(len(vector_ND))
        best = np.full(len(rows), -np.inf, np.float32)
        second, lists, other = best.copy(), np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)
        for members, chosen in self._candidates(vector_ND):
            score = (
                np.take(vector_ND, chosen, axis=0) @ self.blocks[members].T
            )  # take, unlike [], lets other threads run
            first = score.argmax(axis=1)
            at = np.arange(len(chosen))
            top = score[at, first]
            score[at, first] = -np.inf
            next_ = score.argmax(axis=1)
            for value, where in ((top, first), (score[at, next_], next_)):
                number = self.groups[members][where].astype(np.int32)
                wins, places = value > best[chosen], value > second[chosen]
                won, placed = chosen[wins], chosen[places & ~wins]
                second[won], other[won] = best[won], lists[won]
                best[won], lists[won] = value[wins], number[wins]
                second[placed], other[placed] = value[places & ~wins], number[places & ~wins]
        close = np.flatnonzero(best - second < CLOSE)
        if len(close):
            exact = vector_ND[close].astype(np.float64)
            both = np.stack([lists[close], other[close]])
            score2 = np.einsum("nd,pnd->pn", exact, self.centroid_LD[both].astype(np.float64))
            swap = (score2[1] > score2[0]) | ((score2[1] == score2[0]) & (both[1] < both[0]))
            lists[close[swap]] = both[1][swap]
        return lists

    def _candidates(self, vector_ND: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(group, rows that are compared with its centroids) for each group."""
        tried = self.groups_tried
        if len(self.groups) <= tried:
            return [(group, np.arange(len(vector_ND))) for group in range(len(self.groups))]
        score = vector_ND @ self.mean_GD.T
        near = np.argpartition(-score, tried, axis=1)[:, :tried]
        row = np.repeat(np.arange(len(vector_ND)), tried)
        order = np.argsort(near.ravel(), kind="stable")
        group = near.ravel()[order]
        bounds = np.searchsorted(group, np.arange(len(self.groups) + 1))
        return [
            (g, row[order[bounds[g] : bounds[g + 1]]]) for g in range(len(self.groups)) if bounds[g] < bounds[g + 1]
        ]


def gpu_centroids(sample_ND: np.ndarray, num_lists: int, seed: int) -> np.ndarray:
    """The same by FAISS on all GPUs of this machine, over all centroids at once."""
    clustering = faiss.Kmeans(
        sample_ND.shape[1], num_lists, niter=ITERATIONS, seed=seed, spherical=True, gpu=True, min_points_per_centroid=1
    )
    clustering.train(sample_ND)
    return _unit(np.asarray(clustering.centroids))


def _members(number_N: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """(numbers that occur, ascending; the rows of each, ascending)."""
    order = np.argsort(number_N, kind="stable")
    filled, start = np.unique(number_N[order], return_index=True)
    return filled, np.split(order, start[1:])


def _unit(vector_ND: np.ndarray) -> np.ndarray:
    """Unit norm, rounded to float16, so that products with float16 vectors are exact in float64."""
    norm = np.linalg.norm(vector_ND, axis=1, keepdims=True)
    unit_ND: np.ndarray = vector_ND / np.maximum(norm, 1e-12)
    return unit_ND.astype(np.float16).astype(np.float32)


def _parallel(action: Callable[[int], np.ndarray], items: range, num_threads: int) -> list[np.ndarray]:
    if num_threads <= 1 or len(items) <= 1:
        return [action(item) for item in items]
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(action, items))
