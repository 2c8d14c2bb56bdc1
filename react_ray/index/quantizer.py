"""Trains the part of an index that all its shards share, and opens FAISS indices.

Takes the sample that sample.py drew; gives the bytes of an empty trained FAISS index (None for "flat", which needs no
training). Every shard starts from these bytes, so a vector gets the same code and the same list in any shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from react_ray.errors import ArtifactCorrupt, ConfigError, ResourceError
from react_ray.index.config import FLAT, IVF_RABITQ, IVF_SQ8, IndexConfig
from react_ray.index.kmeans import gpu_centroids, train_centroids

DEFAULT_NPROBE = 16
GRID = 2.0**-18  # 1 / 300 of the usual step of an 8-bit code of one dimension of unit vectors


def train(sample_ND: np.ndarray, config: IndexConfig, seed: int, num_threads: int = 1) -> bytes | None:
    """sample: float32 [N, D], unit vectors holding float16 values; rows beyond config.train_sample are not used.

    config.kind is not "auto" and config.num_lists is not 0. The IVF lists come from spherical k-means (kmeans.py).
    Raises ConfigError if the kind is unknown or the sample has fewer vectors than the kind has lists.
    """
    if config.kind == FLAT:
        return None
    sample_ND = np.ascontiguousarray(sample_ND[: config.train_sample], dtype=np.float32)
    if config.kind == IVF_RABITQ:
        centroid_LD = _centroids(sample_ND, config, config.num_lists, seed, num_threads)
        return faiss.serialize_index(rabitq_index(centroid_LD, sample_ND)).tobytes()
    index = empty_index(factory_string(config), sample_ND.shape[1])
    ivf = inverted_lists(index)
    if ivf is not None:
        coarse = faiss.downcast_index(ivf.quantizer)
        if isinstance(faiss.downcast_index(index), faiss.IndexIVF) and isinstance(coarse, faiss.IndexFlat):
            coarse.add(_centroids(sample_ND, config, ivf.nlist, seed, num_threads))
        else:
            _require_vectors(sample_ND, config, ivf.nlist)
        ivf.cp.spherical = True
        ivf.cp.seed = seed
        ivf.cp.min_points_per_centroid = 1  # no warning: fewer than 39 per list is the user's choice
        ivf.nprobe = min(config.nprobe or DEFAULT_NPROBE, ivf.nlist)
    with threads(num_threads):
        try:
            index.train(sample_ND)
        except RuntimeError as error:
            raise ConfigError(
                f"index.kind={config.kind!r} cannot be trained on {len(sample_ND)} vectors ({_reason(error)}); "
                "raise index.train_sample or use a simpler kind"
            ) from error
    return faiss.serialize_index(index).tobytes()


def factory_string(config: IndexConfig) -> str:
    return f"IVF{config.num_lists},SQ8" if config.kind == IVF_SQ8 else config.kind


def rabitq_index(centroid_LD: np.ndarray, sample_ND: np.ndarray) -> faiss.IndexRefine:
    """Returns an empty trained index: lists of 1-bit RaBitQ codes (Gao and Long 2024), and SQ8 codes that re-rank.

    The range of each dimension and its step are multiples of GRID: a decoded vector is then exact in float32, and its
    product with a float16 query is exact in float64 in whatever order it is summed (2**-24 * GRID * 255 codes * D <
    2**53).
    """
    num_lists, dim = centroid_LD.shape
    coarse = faiss.IndexFlatIP(dim)
    coarse.add(centroid_LD)
    hot = faiss.IndexIVFRaBitQ(coarse, dim, num_lists, faiss.METRIC_INNER_PRODUCT)
    hot.train(sample_ND[:1])  # RaBitQ learns nothing from the sample: the bytes are the same for any
    cold = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    cold.train(sample_ND)
    lowest, span = np.split(faiss.vector_to_array(cold.sq.trained).astype(np.float64), 2)
    step = np.maximum(np.ceil(span / 255 / GRID), 1) * GRID
    first = np.round(lowest / GRID) * GRID
    faiss.copy_array_to_vector(np.concatenate([first - step / 2, 255 * step]).astype(np.float32), cold.sq.trained)
    index = faiss.IndexRefine(hot, cold)
    parts: list[Any] = [coarse, hot, cold]
    for part in parts:
        part.this.disown()
    hot.own_fields = index.own_fields = index.own_refine_index = True
    return index


def grid_of(cold: faiss.IndexScalarQuantizer) -> tuple[np.ndarray, np.ndarray]:
    """Returns (value of code 0, step) of each dimension, float64 [D]: the decoded value is first + code * step."""
    low, span = np.split(faiss.vector_to_array(cold.sq.trained).astype(np.float64), 2)
    step = np.round(span / 255 / GRID) * GRID
    return np.round((low + step / 2) / GRID) * GRID, step


def _centroids(sample_ND: np.ndarray, config: IndexConfig, num_lists: int, seed: int, num_threads: int) -> np.ndarray:
    _require_vectors(sample_ND, config, num_lists)
    if faiss.get_num_gpus():
        return gpu_centroids(sample_ND, num_lists, seed)
    with threads(num_threads):
        return train_centroids(sample_ND, num_lists, seed)


def _require_vectors(sample_ND: np.ndarray, config: IndexConfig, num_lists: int) -> None:
    if len(sample_ND) < num_lists:
        raise ConfigError(
            f"index.kind={config.kind!r} has {num_lists} lists, but there are only {len(sample_ND)} vectors to "
            f"train them on; use at most {max(1, len(sample_ND) // 39)} lists (39 vectors each), or kind=flat"
        )


def empty_index(kind: str, dim: int) -> faiss.Index:
    """Returns an untrained index for inner products. Raises ConfigError if FAISS does not know the kind."""
    if kind == FLAT:
        return faiss.IndexFlatIP(dim)
    try:
        return faiss.index_factory(dim, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(
            f"index.kind={kind!r} is no FAISS index for inner products in {dim} dimensions ({_reason(error)}); "
            'use "flat" or a factory string such as "IVF1024,SQ8"'
        ) from error


def inverted_lists(index: faiss.Index) -> faiss.IndexIVF | None:
    """Returns the IVF part of an index, or None if it has none."""
    try:
        return faiss.extract_index_ivf(index)
    except RuntimeError:
        return None


def from_payload(payload: bytes | np.ndarray) -> faiss.Index:
    """Reads a FAISS index from bytes. Raises ArtifactCorrupt if they are not a whole index."""
    try:
        return faiss.deserialize_index(np.frombuffer(payload, dtype=np.uint8))
    except (RuntimeError, MemoryError, ValueError) as error:
        raise ArtifactCorrupt(
            f"{len(payload)} bytes are not a FAISS index ({_reason(error)}); delete the index and build it again"
        ) from error


def read_index(path: str | Path, flags: int = 0) -> faiss.Index:
    """Reads a FAISS index from a file. Raises ArtifactCorrupt if it is not a whole index."""
    try:
        return faiss.read_index(str(path), flags)
    except MemoryError as error:
        raise ResourceError(
            f"{path} does not fit into memory ({error}); search on more nodes, or free some memory"
        ) from error
    except RuntimeError as error:
        raise ArtifactCorrupt(
            f"{path} cannot be read as an index shard ({_reason(error)}); if it is not whole, delete the index and "
            "build it again"
        ) from error


def as_built(index: faiss.Index) -> Any:
    """Returns the index as its own class; the caller keeps `index` alive. The type is Any because FAISS's stubs know
    the base class only."""
    return faiss.downcast_index(index)


def faiss_threads(num_threads: int) -> None:
    """Sets the number of threads of FAISS for searches of this thread; to OpenMP, it is a property of each thread."""
    faiss.omp_set_num_threads(num_threads)


@contextmanager
def threads(num_threads: int) -> Iterator[None]:
    """Runs FAISS on this many threads inside the block, and restores the number, which is the process's, afterwards."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(num_threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _reason(error: Exception) -> str:
    """Returns the last words of a FAISS exception, without its C++ signature."""
    return str(error).strip().splitlines()[-1].split("cpp:")[-1].strip() if str(error) else type(error).__name__
