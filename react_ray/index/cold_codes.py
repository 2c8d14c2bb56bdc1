"""ColdCodes: 8-bit codes and pair_ids of ivf-rabitq shards, mapped, in one range of addresses: FAISS sees one array.

Takes paths of shards; gives codes, exact scores and pair_ids by row. Rows are numbered through all shards; some numbers
between two shards are not used, because a file is mapped from the start of a page. Next: list_index.py.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np

from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ResourceError
from react_ray.index.allowed import Allowed
from react_ray.index.exact import float32_error
from react_ray.index.merge import NO_PAIR, Hits, best
from react_ray.index.quantizer import as_built, grid_of, read_index

CODES_AT_ONCE = 1 << 19  # cold codes that are ranked at a time: in float64 they stay in a core's cache
MAP_FIXED = 0x10
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]


class ColdCodes:
    """Reading is thread-safe: nothing in here changes after construction."""

    def __init__(self, cold: Sequence[str], ids: Sequence[str]) -> None:
        """Paths of cold.faiss and ids.npy of each shard. ArtifactCorrupt, ArtifactMismatch if they do not fit together."""
        self._owners = [read_index(path, faiss.IO_FLAG_MMAP_IFC) for path in cold]
        indices = [as_built(owner) for owner in self._owners]
        self._ids = [np.load(path, mmap_mode="r") for path in ids]
        trained = [faiss.vector_to_array(one.sq.trained) for one in indices]
        for path, path_of_ids, one, own_ids, values in zip(cold, ids, indices, self._ids, trained, strict=True):
            if one.ntotal != len(own_ids):
                raise ArtifactCorrupt(f"{path} and {path_of_ids} are of different shards; delete the index and build it again")
            if not np.array_equal(values, trained[0]):
                raise ArtifactMismatch(f"{path} and {cold[0]} are of different quantisers; delete the index and build it again")
        self.dim, self.lengths = int(indices[0].d), [int(one.ntotal) for one in indices]
        self.first_D, self.step_D = grid_of(indices[0])  # float64: the decoded value is first + code * step
        self.largest_norm = 1.01 + 0.5 * float(np.linalg.norm(self.step_D))  # at most, of a decoded unit vector
        sizes = [os.path.getsize(path) for path in cold]
        head = sizes[0] - self.lengths[0] * self.dim  # FAISS writes codes last
        unit = math.lcm(mmap.ALLOCATIONGRANULARITY, self.dim)
        starts = np.cumsum([0, *(-(-size // unit) * unit for size in sizes)]).tolist()
        self._range = mmap.mmap(-1, starts[-1], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
        for path, size, start in zip(cold, sizes, starts, strict=False):
            _map(path, size, self._range, start)
        self.firsts = [start // self.dim for start in starts[:-1]]  # the first row of each shard
        self.num_rows = self.firsts[-1] + self.lengths[-1]
        codes = np.frombuffer(self._range, np.uint8, self.num_rows * self.dim, head)
        self.codes_ND = codes.reshape(-1, self.dim)  # uint8
        self.faiss: Any = indices[0]  # over all rows from now on
        vectors: Any = faiss.MaybeOwnedVectorUInt8
        view = vectors.create_view(faiss.swig_ptr(codes), codes.size, self.faiss.codes.owner)
        self.faiss.codes, self.faiss.ntotal = view, self.num_rows

    def forget(self) -> None:
        """What was read is no longer counted as this process's memory; it stays in the page cache while there is room."""
        self._range.madvise(mmap.MADV_DONTNEED)

    def pair_ids(self, rows: np.ndarray) -> np.ndarray:
        """int64, of the shape of rows; NO_PAIR where the row is -1."""
        found = np.full(rows.shape, NO_PAIR, np.int64)
        for first, ids in zip(self.firsts, self._ids, strict=True):
            here = (rows >= first) & (rows < first + len(ids))
            found[here] = ids[rows[here] - first]
        return found

    def wanted(self, deleted: np.ndarray | None, allowed: Allowed | None) -> np.ndarray | None:
        """bool [num_rows], False where there is no pair, or one that is deleted or not allowed; None if all are wanted."""
        found = np.zeros(self.num_rows, bool)
        for first, ids in zip(self.firsts, self._ids, strict=True):
            here = found[first : first + len(ids)]
            here[:] = True
            if deleted is not None and len(deleted):
                here &= ~np.isin(ids, deleted)
            if allowed is not None:
                here &= allowed.contains(ids)
        return None if found.sum() == sum(self.lengths) else found

    def ranked(self, scores: np.ndarray, rows: np.ndarray, exact_QD: np.ndarray, k: int, num_threads: int) -> Hits:
        """The k best of what FAISS re-ranked, by exact scores. scores float32 and rows int64 [Q, F], best first, -1 = none.

        Only rows that float32 cannot tell from the k-th are scored again: no other can be among the k best.
        """
        margin_Q = 4 * float32_error(np.linalg.norm(exact_QD, axis=1), self.largest_norm, self.dim)  # of two, each decoded in float32
        kth_Q = scores[:, min(k, rows.shape[1]) - 1]
        few = int((scores >= (kth_Q - margin_Q)[:, None]).sum(axis=1).max())
        rows = np.ascontiguousarray(rows[:, :few])
        scaled_QD, offset_Q = exact_QD * self.step_D, exact_QD @ self.first_D

        def rank(block: slice) -> Hits:
            codes_BFD = self.codes_ND.take(rows[block], axis=0, mode="clip").astype(np.float64)
            exact = np.matmul(codes_BFD, scaled_QD[block][:, :, None])[:, :, 0] + offset_Q[block, None]
            return best(exact.astype(np.float32), self.pair_ids(rows[block]), k)

        step = max(1, CODES_AT_ONCE // (few * self.dim))
        if len(rows) <= step:
            return rank(slice(None))
        with ThreadPoolExecutor(num_threads) as pool:
            found = list(pool.map(rank, [slice(start, start + step) for start in range(0, len(rows), step)]))
        return Hits(np.concatenate([one.scores for one in found]), np.concatenate([one.pair_ids for one in found]))


def _map(path: str, size: int, into: mmap.mmap, start: int) -> None:
    """The file, to be read, in place of these pages of `into`, which unmaps them when it goes."""
    address = np.frombuffer(into, np.uint8).ctypes.data + start
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = _libc.mmap(address, size, mmap.PROT_READ, mmap.MAP_SHARED | MAP_FIXED, descriptor, 0)
    finally:
        os.close(descriptor)
    if found != address:
        reason = os.strerror(ctypes.get_errno())
        raise ResourceError(f"{path} cannot be mapped ({reason}); raise the limit of mappings (sysctl vm.max_map_count), or open fewer shards")
