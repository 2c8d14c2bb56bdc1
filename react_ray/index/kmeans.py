"""Spherical k-means for the lists of an IVF, and the assignment of vectors to lists, by FAISS through two levels.

Takes unit vectors float32 [N, D]; gives centroids float32 [L, D] and list numbers int32 [N]. With 1,024 lists and more
the centroids are themselves grouped in an IVF, and a vector is compared with the centroids of its nearest groups only:
for L lists in 4 * sqrt(L) groups that is about 10 * sqrt(L) inner products instead of L. With fewer lists there is one
group. Training 2,048 lists x 512 so takes 14.2 CPU-seconds against 31.7 of faiss.Kmeans, with a mean cosine of 0.8182
against 0.8194; assignment gains only with more lists than that (python tests/benchmark/bench_own_faiss.py).

FAISS adds up a vector and a centroid in the same order whatever the batch, so the list of a vector does not depend on
threads or on how vectors come in blocks, unless two groups at the edge of those tried are equally near within the error
of float32 (1e-7).
"""

from __future__ import annotations

from math import sqrt

import faiss
import numpy as np

ITERATIONS = 10  # of Lloyd's algorithm; FAISS's default for IVF
GROUPS_PER_ROOT = 4  # groups / sqrt(lists): lists lie in few dense regions, and more groups than sqrt(lists) part these
GROUPS_TRIED = 5  # per vector: they hold the nearest list of 99 % (tests/unit/index/test_kmeans.py)
GROUPS_TRIED_TRAINING = (
    3  # hold the nearest list of 96 %; in training that costs 0.0004 of the mean cosine to the centroid
)
TWO_LEVELS_FROM = 1024  # lists; with fewer, a vector is compared with all of them


def train_centroids(sample_ND: np.ndarray, num_lists: int, seed: int) -> np.ndarray:
    """Lloyd's algorithm from random vectors of the sample. Returns float32 [num_lists, D], unit norm."""
    assert 1 <= num_lists <= len(sample_ND), (num_lists, len(sample_ND))
    clustering = faiss.Clustering(sample_ND.shape[1], num_lists)
    clustering.niter, clustering.seed, clustering.spherical = ITERATIONS, seed, True
    clustering.min_points_per_centroid = 1  # fewer than 39 is the user's choice, no reason to print
    clustering.max_points_per_centroid = len(sample_ND)  # the whole sample
    clustering.update_index = True  # groups follow their centroids
    clustering.train(sample_ND, _grouped(sample_ND.shape[1], num_lists, GROUPS_TRIED_TRAINING))
    return _unit(faiss.vector_to_array(clustering.centroids).reshape(num_lists, -1))


class Assigner:
    """Finds the nearest list of each vector. Nothing changes after construction: threads share it."""

    def __init__(self, centroid_LD: np.ndarray, groups_tried: int = GROUPS_TRIED) -> None:
        self.index = _grouped(centroid_LD.shape[1], len(centroid_LD), groups_tried)
        self.index.train(centroid_LD)
        self.index.add(centroid_LD)

    def assign(self, vector_ND: np.ndarray) -> np.ndarray:
        """vectors float32 [N, D]. Returns int32 [N], in as many threads as FAISS has."""
        _, lists_N1 = self.index.search(vector_ND, 1)
        return lists_N1[:, 0].astype(np.int32)


def gpu_centroids(sample_ND: np.ndarray, num_lists: int, seed: int) -> np.ndarray:
    """The same on all GPUs of this machine, over all centroids at once."""
    clustering = faiss.Kmeans(
        sample_ND.shape[1],
        num_lists,
        niter=ITERATIONS,
        seed=seed,
        spherical=True,
        gpu=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample_ND),
    )
    clustering.train(sample_ND)
    return _unit(np.asarray(clustering.centroids))


def _grouped(dim: int, num_lists: int, groups_tried: int) -> faiss.IndexIVFFlat:
    """An empty index for centroids, which its `train` groups."""
    num_groups = int(GROUPS_PER_ROOT * sqrt(num_lists)) if num_lists >= TWO_LEVELS_FROM else 1
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, num_groups, faiss.METRIC_INNER_PRODUCT)
    index.cp.spherical, index.cp.min_points_per_centroid = True, 1
    index.nprobe = groups_tried
    return index


def _unit(vector_ND: np.ndarray) -> np.ndarray:
    """Unit norm, rounded to float16, so that products with float16 vectors are exact in float64."""
    norm = np.linalg.norm(vector_ND, axis=1, keepdims=True)
    unit_ND: np.ndarray = vector_ND / np.maximum(norm, 1e-12)
    return unit_ND.astype(np.float16).astype(np.float32)
