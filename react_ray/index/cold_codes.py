"""ColdCodes: the 8-bit codes and pair_ids of ivf-rabitq shards, mapped into one range of addresses.

Takes the paths of the shards; gives codes, scores and pair_ids by row. Rows are numbered through all shards; some
numbers between two shards are unused, because a file is mapped from the start of a page. A search that re-ranks takes a
tenth longer than in FAISS with the same file mapped (0.37 and 0.33 CPU-milliseconds a query), but its scores do not
depend on the order in which products are added up, and FAISS never gives pages back: after 6,000 queries 39 of 41 MB
stay mapped, here 1 MB (python tests/benchmark/bench_own_faiss.py --only cold --n 80000).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import local

import faiss
import numpy as np

from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ResourceError
from react_ray.index.allowed import Allowed
from react_ray.index.blas_threads import one_thread_each
from react_ray.index.merge import NO_PAIR
from react_ray.index.quantizer import as_built, grid_of, read_index

MIDDLE = 128  # the middle of the range of codes
CODES_AT_ONCE = 1 << 19  # that are scored at a time: in float32 they stay in a core's cache
SHARES_PER_THREAD = 4  # rows differ in how soon they are read; small shares keep threads from waiting for the last one
KEPT_BYTES = 1 << 30  # of mapped codes that may count as this process's memory
CHECKED_BYTES = 16 << 20  # bytes read between two checks of how much is mapped
FAULT_BYTES = 1 << 16  # bytes that Linux maps around a byte that is read and cached; more with large folios
ROWS_OF_PAGES = mmap.ALLOCATIONGRANULARITY  # this many rows of codes or of ids are whole pages
MAP_FIXED = 0x10
_of_thread = local()
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]


@dataclass(frozen=True)
class Asked:
    """Queries in whole numbers: the score of a code is (code - MIDDLE) @ whole * worth + offset, float32 [Q, D] and
    [Q]."""

    whole_QD: np.ndarray
    worth_Q: np.ndarray
    offset_Q: np.ndarray

    def take(self, some: np.ndarray | slice) -> Asked:
        return Asked(self.whole_QD[some], self.worth_Q[some], self.offset_Q[some])

    def scores(self, signed_ND: np.ndarray) -> np.ndarray:
        """Returns float32 [Q, N]. signed: codes less MIDDLE, float32."""
        scores_QN = self.whole_QD @ signed_ND.T
        scores_QN *= self.worth_Q[:, None]
        scores_QN += self.offset_Q[:, None]
        return scores_QN


def whole_numbers(value_QD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (float32 [Q, D] of integers, float32 [Q], the value of 1). The sum of products of a row with any codes -
    MIDDLE stays below 2**24, so it is exact in float32 in whatever order it is taken."""
    worth_Q = np.maximum(np.abs(value_QD).sum(axis=1), 1e-30) / (2.0**24 / MIDDLE - value_QD.shape[1] / 2)
    return np.rint(value_QD / worth_Q[:, None]).astype(np.float32), worth_Q.astype(np.float32)


class ColdCodes:
    """Reading is thread-safe."""

    def __init__(self, cold: Sequence[str], ids: Sequence[str]) -> None:
        """cold, ids: paths of cold.faiss and ids.npy of each shard. Raises ArtifactCorrupt or ArtifactMismatch if the
        files do not belong together."""
        owners = [read_index(path, faiss.IO_FLAG_MMAP_IFC) for path in cold]
        indices = [as_built(owner) for owner in owners]
        trained = [faiss.vector_to_array(one.sq.trained) for one in indices]
        self.dim, self.lengths = int(indices[0].d), [int(one.ntotal) for one in indices]
        for path, path_of_ids, length, values in zip(cold, ids, self.lengths, trained, strict=True):
            if length != len(np.load(path_of_ids, mmap_mode="r")):
                raise ArtifactCorrupt(
                    f"{path} and {path_of_ids} are of different shards; delete the index and build it again"
                )
            if not np.array_equal(values, trained[0]):
                raise ArtifactMismatch(
                    f"{path} and {cold[0]} are of different quantisers; delete the index and build it again"
                )
        first_D, self.step_D = grid_of(indices[0])  # float64: the decoded value is first + code * step
        self._middle_D = first_D + MIDDLE * self.step_D  # the value of MIDDLE
        # The header before the rows has as many bytes in each shard.
        head, head_of_ids = (
            os.path.getsize(cold[0]) - self.lengths[0] * self.dim,
            os.path.getsize(ids[0]) - self.lengths[0] * 8,
        )
        for paths, width, before in ((cold, self.dim, head), (ids, 8, head_of_ids)):
            for path, length in zip(paths, self.lengths, strict=True):
                if os.path.getsize(path) != before + length * width:
                    raise ArtifactCorrupt(
                        f"{path} is written in another format than {paths[0]}; delete the index and build it again"
                    )
        spare = max(-(-head // self.dim), -(-head_of_ids // 8))
        ends = np.cumsum([-(-(length + spare) // ROWS_OF_PAGES) * ROWS_OF_PAGES for length in self.lengths]).tolist()
        self.firsts = [0, *ends[:-1]]  # the first row of each shard
        self.num_rows = self.firsts[-1] + self.lengths[-1]
        self._codes = _mapped(cold, [first * self.dim for first in self.firsts], ends[-1] * self.dim)
        codes = np.frombuffer(self._codes, np.uint8, self.num_rows * self.dim, head)
        self.codes_ND = codes.reshape(-1, self.dim)  # uint8
        ids_range = _mapped(ids, [first * 8 for first in self.firsts], ends[-1] * 8)
        self._ids_N = np.frombuffer(ids_range, np.int64, self.num_rows, head_of_ids)
        self._read, self._mapped_before = 0, _mapped_bytes()

    def has_read(self, num_bytes: int) -> None:
        """Unmaps all pages once a GiB more is mapped than at the start; they stay in the page cache while there is
        room.

        num_bytes is a lower bound: Linux decides how much it maps around the bytes that are read.
        """
        self._read += num_bytes
        if self._read > CHECKED_BYTES:
            self._read = 0
            if _mapped_bytes() - self._mapped_before > KEPT_BYTES:
                self.forget()

    def forget(self) -> None:
        """Unmaps the pages read so far, so that they no longer count as this process's memory."""
        self._codes.madvise(mmap.MADV_DONTNEED)

    def pair_ids(self, rows: np.ndarray) -> np.ndarray:
        """Returns int64 with the shape of rows; NO_PAIR where the row is -1."""
        return np.where(rows < 0, NO_PAIR, self._ids_N.take(rows, mode="clip"))

    def pair_ids_of(self, rows: np.ndarray) -> np.ndarray:
        """As `pair_ids`, of rows none of which is -1."""
        return self._ids_N[rows]

    def wanted(self, deleted: np.ndarray | None, allowed: Allowed | None) -> np.ndarray | None:
        """Returns bool [num_rows], False for unused rows and for deleted or disallowed pairs; None if no pair is
        excluded."""
        found = np.zeros(self.num_rows, bool)
        for first, length in zip(self.firsts, self.lengths, strict=True):
            here, ids = found[first : first + length], self._ids_N[first : first + length]
            here[:] = True
            if deleted is not None and len(deleted):
                here &= ~np.isin(ids, deleted)
            if allowed is not None:
                here &= allowed.contains(ids)
        return None if found.sum() == sum(self.lengths) else found

    def asked(self, exact_QD: np.ndarray) -> Asked:
        """queries: float64 [Q, D] holding float16 values."""
        scaled_QD = exact_QD * self.step_D
        whole_QD, worth_Q = whole_numbers(scaled_QD)
        offset_Q = np.vecdot(exact_QD, self._middle_D)  # a product of matrices would depend on the other queries
        return Asked(whole_QD, worth_Q, offset_Q.astype(np.float32))

    def scores(self, rows_QC: np.ndarray, asked: Asked, num_threads: int) -> np.ndarray:
        """Returns float32 [Q, C], the scores of these rows (int64, -1 = none, whose score is -inf)."""
        num_queries, width = rows_QC.shape
        wide = min(max(1, width), CODES_AT_ONCE // self.dim or 1)
        high = CODES_AT_ONCE // (wide * self.dim) or 1
        tiles = [
            (slice(query, query + high), slice(column, column + wide))
            for query in range(0, num_queries, high)
            for column in range(0, width, wide)
        ]
        scores_QC = np.empty(rows_QC.shape, np.float32)
        num_shares = min(len(tiles), SHARES_PER_THREAD * num_threads)  # a task for each tile would cost more
        shares = [tiles[first::num_shares] for first in range(num_shares)]
        if len(shares) == 1:
            self._score(scores_QC, rows_QC, asked, tiles)
        else:
            with one_thread_each(), ThreadPoolExecutor(num_threads) as pool:
                list(pool.map(lambda share: self._score(scores_QC, rows_QC, asked, share), shares))
        self.has_read(rows_QC.size * max(mmap.PAGESIZE, self.dim))
        return scores_QC

    def _score(
        self, scores_QC: np.ndarray, rows_QC: np.ndarray, asked: Asked, tiles: Sequence[tuple[slice, slice]]
    ) -> None:
        """Overwrites the scores of these tiles."""
        codes, signed = _buffers(max(CODES_AT_ONCE, self.dim))
        for some, columns in tiles:
            rows, scores = rows_QC[some, columns], scores_QC[some, columns]
            shape, size = (*rows.shape, self.dim), rows.size * self.dim
            codes_QCD, signed_QCD = codes[:size].reshape(shape), signed[:size].reshape(shape)
            self.codes_ND.take(rows, axis=0, mode="clip", out=codes_QCD)
            codes_QCD ^= MIDDLE
            np.copyto(signed_QCD, codes_QCD.view(np.int8))
            np.vecdot(signed_QCD, asked.whole_QD[some][:, None], out=scores)  # unlike matmul, wakes no thread
            scores *= asked.worth_Q[some, None]
            scores += asked.offset_Q[some, None]
            scores[rows < 0] = -np.inf

    def signed(self, rows: np.ndarray) -> np.ndarray:
        """Returns the codes of these rows less MIDDLE, float32 [..., D]; of row 0 where the row is -1."""
        return (self.codes_ND.take(rows, axis=0, mode="clip") ^ MIDDLE).view(np.int8).astype(np.float32)


def _buffers(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Arrays of this thread, uint8 and float32 [size]. The pages of a new one take as long as to decode codes into."""
    found: tuple[np.ndarray, np.ndarray] | None = getattr(_of_thread, "buffers", None)
    if found is None or len(found[0]) < size:
        found = _of_thread.buffers = np.empty(size, np.uint8), np.empty(size, np.float32)
    return found


def _mapped_bytes() -> int:
    """Returns the bytes of files and shared memory mapped in this process; 0 if unknown, and then nothing is
    unmapped."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[2]) * mmap.PAGESIZE
    except OSError:
        return 0


def _mapped(paths: Sequence[str], starts: Sequence[int], size: int) -> mmap.mmap:
    """Maps each file for reading at its start within one range of `size` bytes, whose deletion unmaps all of them."""
    whole = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    address = np.frombuffer(whole, np.uint8).ctypes.data
    for path, start in zip(paths, starts, strict=True):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            length = os.fstat(descriptor).st_size
            found = _libc.mmap(address + start, length, mmap.PROT_READ, mmap.MAP_SHARED | MAP_FIXED, descriptor, 0)
        finally:
            os.close(descriptor)
        if found != address + start:
            reason = os.strerror(ctypes.get_errno())
            raise ResourceError(
                f"{path} cannot be mapped ({reason}); raise the limit of mappings (sysctl vm.max_map_count), or "
                "open fewer shards"
            )
    return whole
