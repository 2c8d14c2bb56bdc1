"""Finds duplicates among rows that are ordered by preference: the first row of each group of duplicates stays.

Takes keys (equal = duplicate), perceptual hashes (few differing bits) or unit vectors (high cosine), best row first;
gives for each row the row that it duplicates, or -1. Two rows that stay are never duplicates of each other. Each block
of rows is compared with itself and with the rows that stayed before, so memory grows with the number of rows only,
however many copies of one picture there are.
"""

from __future__ import annotations

import math
from typing import Any

import faiss
import numpy as np

from react_ray.errors import ConfigError

BLOCK = 1024
EXACT_UP_TO = 20_000  # vectors; more are compared within IVF lists, in which near-duplicates meet
LISTS_VISITED = 8
TRAIN_PER_LIST = 39  # vectors; the number that FAISS asks for
NEIGHBOURS = 4  # that the float32 search proposes and float64 decides
HASH_BITS, NUM_CHUNKS = 64, 4
NONE = -1


def equal_keys(keys: np.ndarray) -> np.ndarray:
    """keys: sortable [N]; empty and zero keys equal no other. Returns int64 [N]: the first row with the same key, or
    -1."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    original = first[inverse]
    mine = original == np.arange(len(keys))
    return np.where(mine | ~keys.astype(bool), NONE, original)


def near_hashes(hashes: np.ndarray, radius: int) -> np.ndarray:
    """hashes uint64 [N]; duplicates differ in at most `radius` bits. Returns int64 [N]: the row that each duplicates,
    or -1.

    Uses multi-index hashing (Norouzi et al. 2012): of 4 chunks of 16 bits, one differs in at most radius // 4 bits.
    """
    _check_radius(radius)
    if radius == 0:
        return _equal_hashes(hashes)
    kept = _hash_index(radius)
    rows_kept = np.empty(len(hashes), dtype=np.int64)
    out = np.full(len(hashes), NONE, dtype=np.int64)
    for start in range(0, len(hashes), BLOCK):
        block = hashes[start : start + BLOCK]
        found = _nearest_hash(kept, block, radius)
        out[start : start + len(block)] = np.where(found == NONE, NONE, rows_kept[np.maximum(found, 0)])
        near = np.bitwise_count(block[:, None] ^ block[None, :]) <= radius
        rows = _greedy(near, out, start, len(block))
        rows_kept[kept.ntotal : kept.ntotal + len(rows)] = rows
        if len(rows):
            kept.add(_as_bytes(hashes[rows]))
    return out


def near_vectors(vectors_ND: np.ndarray, cosine: float, seed: int = 0) -> np.ndarray:
    """vectors float16 [N, D], unit norm; a NaN row duplicates nothing. Returns int64 [N]: the row that each duplicates,
    or -1.

    The comparison is exact up to 20,000 vectors. Beyond, a vector is compared with the 8 nearest of sqrt(N) lists: two
    vectors with a cosine of 0.9 or more rarely meet in none of them, but it happens.
    """
    if not 0 < cosine <= 1:
        raise ConfigError(f"cosine {cosine} is no threshold of duplicates; use a number above 0, at most 1")
    out = np.full(len(vectors_ND), NONE, dtype=np.int64)
    finite = np.isfinite(vectors_ND).all(axis=1)
    kept = _vector_index(vectors_ND, finite, seed)
    for start in range(0, len(vectors_ND), BLOCK):
        block_BD = np.where(finite[start : start + BLOCK, None], vectors_ND[start : start + BLOCK], np.float16(0))
        exact_BD = block_BD.astype(np.float64)
        if kept.ntotal:
            _, ids = kept.search(block_BD.astype(np.float32), min(NEIGHBOURS, kept.ntotal))
            others_BKD = vectors_ND[np.maximum(ids, 0)].astype(np.float64)
            scores = np.where(ids >= 0, np.einsum("bd,bkd->bk", exact_BD, others_BKD), -1.0)
            best = scores.argmax(axis=1)
            here = np.arange(len(block_BD))
            out[start : start + BLOCK] = np.where(scores[here, best] >= cosine, ids[here, best], NONE)
        near = exact_BD @ exact_BD.T >= cosine
        rows = _greedy(near, out, start, len(block_BD))
        rows = rows[finite[rows]]
        if len(rows):
            kept.add_with_ids(np.ascontiguousarray(vectors_ND[rows], dtype=np.float32), rows)
    return out


def within_hashes(hashes: np.ndarray, references: np.ndarray, radius: int) -> np.ndarray:
    """Returns bool [N]: True where some reference (uint64 [M]) differs from the hash in at most `radius` bits."""
    _check_radius(radius)
    index = _hash_index(radius)
    if len(references):
        index.add(_as_bytes(references))
    blocks = [_nearest_hash(index, hashes[i : i + BLOCK], radius) != NONE for i in range(0, len(hashes), BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros(0, bool)


def within_cosine(vectors_ND: np.ndarray, references_MD: np.ndarray, cosine: float) -> np.ndarray:
    """Returns bool [N]: True where some reference has at least this cosine. Takes float16, compares in float64; NaN
    rows are near nothing."""
    out = np.zeros(len(vectors_ND), dtype=bool)
    references_MD = references_MD[np.isfinite(references_MD).all(axis=1)]
    for start in range(0, len(vectors_ND), BLOCK):
        block_BD = np.nan_to_num(vectors_ND[start : start + BLOCK].astype(np.float64))
        for first in range(0, len(references_MD), 16 * BLOCK):
            near = block_BD @ references_MD[first : first + 16 * BLOCK].astype(np.float64).T >= cosine
            out[start : start + BLOCK] |= near.any(axis=1)
    return out


def _greedy(near: np.ndarray, out: np.ndarray, start: int, size: int) -> np.ndarray:
    """Decides the rows of one block in order and writes the result to `out`; near: bool [B, B]. Returns the rows that
    stay."""
    near = np.tril(near, -1)
    for row in np.flatnonzero(near.any(axis=1)):
        if out[start + row] == NONE:
            earlier = np.flatnonzero(near[row])
            earlier = earlier[out[start + earlier] == NONE]
            if len(earlier):
                out[start + row] = start + earlier[0]
    return start + np.flatnonzero(out[start : start + size] == NONE)


def _equal_hashes(hashes: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    original = first[inverse]
    return np.where(original == np.arange(len(hashes)), NONE, original)


def _check_radius(radius: int) -> None:
    if not 0 <= radius < NUM_CHUNKS * 3:
        raise ConfigError(
            f"a radius of {radius} bits of a perceptual hash is not searched; use 0 to {NUM_CHUNKS * 3 - 1}"
        )


def _hash_index(radius: int) -> Any:
    index = faiss.IndexBinaryMultiHash(HASH_BITS, NUM_CHUNKS, HASH_BITS // NUM_CHUNKS)
    index.nflip = radius // NUM_CHUNKS
    return index


def _nearest_hash(index: Any, hashes: np.ndarray, radius: int) -> np.ndarray:
    """Returns int64 [B]: the first row of the index (not the nearest) that differs in at most `radius` bits, or -1."""
    out = np.full(len(hashes), NONE, dtype=np.int64)
    if not index.ntotal or not len(hashes):
        return out
    limits, _, ids = index.range_search(_as_bytes(hashes), radius + 1)
    sizes = np.diff(limits.astype(np.int64))
    some = np.flatnonzero(sizes)
    if len(some):
        out[some] = np.minimum.reduceat(ids, limits.astype(np.int64)[some])
    return out


def _as_bytes(hashes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(hashes, dtype="<u8").view(np.uint8).reshape(-1, 8)


def _vector_index(vectors_ND: np.ndarray, finite: np.ndarray, seed: int) -> Any:
    num, dim = vectors_ND.shape
    if num <= EXACT_UP_TO:
        return faiss.IndexIDMap2(faiss.IndexFlatIP(dim))
    num_lists = math.isqrt(num)
    native: Any = faiss
    index = native.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, num_lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    index.cp.seed, index.cp.spherical, index.nprobe = seed + 1, True, LISTS_VISITED
    usable = np.flatnonzero(finite)
    chosen = np.random.default_rng(seed).choice(usable, min(len(usable), TRAIN_PER_LIST * num_lists), replace=False)
    index.train(np.ascontiguousarray(vectors_ND[np.sort(chosen)], dtype=np.float32))
    return index
