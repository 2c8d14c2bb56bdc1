"""ListShard: a shard of kind ivf-rabitq. Hot 1-bit codes in memory, cold 8-bit codes and ids mapped, all in list order.

    hot.faiss    FAISS IVF of RaBitQ fast-scan blocks; its ids are row numbers, its quantiser is the one all shards share
    cold.faiss   FAISS SQ8 codes, row by row
    ids.npy      pair_id of each row

Rows are sorted by list, then by pair_id: what a query re-ranks lies together, and a file of metadata in the same order
is read by row number. Few hits per query (k_factor > 0): hot codes propose, cold codes re-rank; the last word have exact
scores. Many
(k_factor = 0): each visited list is decoded once for all queries that visit it and compared by one matrix product; these
scores are exact for the decoded vectors (see quantizer.GRID), whatever the batch. Next: cold_codes.py, together.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np

from react_ray.artifact import Piece
from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, RetrievalError
from react_ray.index.cold_codes import SPARE, best_rows, ranked
from react_ray.index.config import IVF_RABITQ, SearchParams
from react_ray.index.exact import as_queries, finite_rows
from react_ray.index.kmeans import Assigner
from react_ray.index.merge import Hits, check_k, no_hits, ranking
from react_ray.index.quantizer import DEFAULT_NPROBE, as_built, from_payload, grid_of

FILES = ("hot.faiss", "cold.faiss", "ids.npy")
CODE_BITS_OF_QUERY = 8  # of RaBitQ: FAISS's own default for fast-scan
K_FACTOR = 10.0
SCORES_AT_ONCE = 1 << 26  # of a block of queries, float32: 256 MB
ROWS_AT_ONCE = 1 << 16  # of cold codes that are written


class ListShardBuilder:
    """Takes vectors part by part, keeps their codes (D + D/8 + 20 bytes each), gives the files of a shard."""

    def __init__(self, quantizer: bytes, num_threads: int = 1) -> None:
        self._owner, self._num_threads = from_payload(quantizer), num_threads
        self._trained: Any = as_built(self._owner)
        self._hot: Any = as_built(self._trained.base_index)
        self._cold: Any = as_built(self._trained.refine_index)
        self._assigner = Assigner(as_built(self._hot.quantizer).reconstruct_n())
        self._ids: list[np.ndarray] = []
        self._lists: list[np.ndarray] = []
        self._hot_codes: list[np.ndarray] = []
        self._cold_codes: list[np.ndarray] = []

    def add(self, pair_ids: np.ndarray, vectors_ND: np.ndarray) -> None:
        """vectors float16 or float32 [n, D]. Rows that are null or NaN never enter."""
        if vectors_ND.shape[1] != self._trained.d:
            raise RetrievalError(
                f"the index was trained for dimension {self._trained.d}, a part has vectors of dimension {vectors_ND.shape[1]}; "
                "train it on these embeddings, all of the same backbone"
            )
        pair_ids, vectors_ND = finite_rows(np.asarray(pair_ids, dtype=np.int64), vectors_ND)
        if not len(pair_ids):
            return
        vectors_ND = np.ascontiguousarray(vectors_ND, dtype=np.float32)
        lists = self._assigner.assign(vectors_ND, self._num_threads)
        wide = lists.astype(np.int64)
        codes = np.empty((len(lists), self._hot.code_size), np.uint8)
        self._hot.encode_vectors(
            len(lists), faiss.swig_ptr(vectors_ND), faiss.swig_ptr(wide), faiss.swig_ptr(codes)
        )
        self._ids.append(pair_ids)
        self._lists.append(lists)
        self._hot_codes.append(codes)
        self._cold_codes.append(self._cold.sa_encode(vectors_ND))

    def finish(self) -> tuple[np.ndarray, dict[str, bytes | Iterator[Piece]]]:
        """(pair_ids in the order of rows, bytes of each file of FILES in pieces)."""
        ids = np.concatenate([np.empty(0, np.int64), *self._ids])
        lists = np.concatenate([np.empty(0, np.int32), *self._lists])
        order = np.lexsort((ids, lists))
        ids, lists = ids[order], lists[order]
        return ids, {
            "hot.faiss": self._hot_pieces(order, lists),
            "cold.faiss": self._cold_pieces(order),
            "ids.npy": _npy(ids),
        }

    def _hot_pieces(self, order: np.ndarray, lists: np.ndarray) -> Iterator[Piece]:
        codes = np.concatenate([np.empty((0, self._hot.code_size), np.uint8), *self._hot_codes])[order]
        self._hot_codes.clear()
        rows = np.arange(len(order), dtype=np.int64)
        bounds = np.searchsorted(lists, np.arange(self._hot.nlist + 1))
        for one in np.flatnonzero(np.diff(bounds)).tolist():
            first, last = int(bounds[one]), int(bounds[one + 1])
            self._hot.invlists.add_entries(
                one, last - first, faiss.swig_ptr(rows[first:last]), faiss.swig_ptr(codes[first:last])
            )
        self._hot.ntotal = len(order)
        packed = faiss.IndexIVFRaBitQFastScan(self._hot, 32)
        packed.qb = CODE_BITS_OF_QUERY
        self._hot.reset()
        native, nothing = packed, faiss.IndexFlatIP(self._trained.d)
        native.quantizer, native.own_fields = nothing, False
        yield faiss.serialize_index(packed).data

    def _cold_pieces(self, order: np.ndarray) -> Iterator[Piece]:
        """FAISS's own file of an IndexScalarQuantizer, without a second copy of the codes in memory."""
        empty = faiss.serialize_index(self._cold).tobytes()
        assert len(empty) > 24 and empty[8:16] == bytes(8) and empty[-8:] == bytes(8), "FAISS writes another format"
        yield empty[:8] + len(order).to_bytes(8, "little") + empty[16:-8]
        yield (len(order) * self._trained.d).to_bytes(8, "little")
        starts = np.cumsum([0, *map(len, self._cold_codes)])
        for first in range(0, len(order), ROWS_AT_ONCE):
            wanted = order[first : first + ROWS_AT_ONCE]
            piece = np.empty((len(wanted), self._trained.d), np.uint8)
            for codes, start in zip(self._cold_codes, starts, strict=False):
                here = (wanted >= start) & (wanted < start + len(codes))
                piece[here] = codes[wanted[here] - start]
            yield piece.data
        self._cold_codes.clear()


def coarse_quantizer(quantizer: bytes) -> faiss.Index:
    """The centroids of the lists out of what train() gave."""
    trained = as_built(owner := from_payload(quantizer))
    coarse = faiss.clone_index(as_built(trained.base_index).quantizer)
    del owner
    return coarse


class ListShard:
    """Searching is thread-safe: nothing in here changes after construction."""

    def __init__(
        self, hot: str, cold: str, ids: str, coarse: faiss.Index, deleted: np.ndarray | None = None
    ) -> None:
        """Paths of the three files; coarse: of coarse_quantizer(), shared; deleted: pair_ids, sorted, that no search returns."""
        self._hot_owner, self._cold_owner = _read(hot, 0), _read(cold, faiss.IO_FLAG_MMAP_IFC)
        self._hot: Any = as_built(self._hot_owner)
        if (coarse.d, coarse.ntotal) != (self._hot.d, self._hot.nlist):
            raise ArtifactMismatch(
                f"{hot} has {self._hot.nlist} lists of dimension {self._hot.d}, its quantiser {coarse.ntotal} of {coarse.d}; "
                "delete the index and build it again"
            )
        self.coarse, self._hot.quantizer, self._hot.own_fields = coarse, coarse, False
        self._cold: Any = as_built(self._cold_owner)
        self.pair_ids = np.load(ids, mmap_mode="r")
        sizes = {self._hot.ntotal, self._cold.ntotal, len(self.pair_ids)}
        if len(sizes) > 1:
            raise ArtifactCorrupt(f"{hot}, {cold} and {ids} are of different shards; delete the index and build it again")
        self._refine = faiss.IndexRefine(self._hot, self._cold)
        self.first_D, self.step_D = grid_of(self._cold)
        total = self.num_vectors * self.dim
        self.codes_ND = np.empty((0, self.dim), np.uint8)
        if total:
            self.codes_ND = faiss.rev_swig_ptr(self._cold.codes.data(), total).reshape(-1, self.dim)
        lengths = [self._hot.invlists.list_size(one) for one in range(self._hot.nlist)]
        self._bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self._alive: np.ndarray | None = None
        if deleted is not None and len(deleted):
            alive = ~np.isin(self.pair_ids, deleted)
            self._alive = None if alive.all() else alive

    @property
    def num_vectors(self) -> int:
        return int(self._hot.ntotal)

    @property
    def dim(self) -> int:
        return int(self._hot.d)

    @property
    def family(self) -> str:
        """Which of SearchParams it obeys."""
        return IVF_RABITQ

    @property
    def num_lists(self) -> int:
        return int(self._hot.nlist)

    def search(
        self, queries_QD: np.ndarray, k: int, params: SearchParams | None = None, allowed: np.ndarray | None = None
    ) -> Hits:
        """queries float32 [Q, D], unit norm; allowed: bool [num_vectors], in the order of rows, for a filter on metadata.

        Returns Hits [Q, k]; equal scores: the smaller pair_id first.
        """
        check_k(k)
        exact_QD = as_queries(queries_QD, self.dim)
        params = params or SearchParams(k_factor=K_FACTOR)
        nprobe = min(params.nprobe or DEFAULT_NPROBE, self.num_lists)
        if not self.num_vectors or not len(exact_QD):
            return no_hits(len(exact_QD), k)
        if params.k_factor:
            return self._search_hot(exact_QD, k, nprobe, params.k_factor, self.alive(allowed))
        return self._search_cold(exact_QD, k, nprobe, self.alive(allowed))

    def _search_hot(self, exact_QD: np.ndarray, k: int, nprobe: int, k_factor: float, allowed: np.ndarray | None) -> Hits:
        """FAISS proposes and re-ranks; the score of what it finds is made exact."""
        native: Any = faiss
        candidates = min(max(k, round(k * k_factor)), self.num_vectors)
        fetch = min(k + SPARE, candidates)
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        selector = {} if bits is None else {"sel": native.IDSelectorBitmap(bits)}
        asked = native.IndexRefineSearchParameters(
            k_factor=(candidates + 0.5) / fetch,
            base_index_params=native.SearchParametersIVF(nprobe=nprobe, **selector),
        )
        _, rows = self._refine.search(exact_QD.astype(np.float32), fetch, params=asked)
        return ranked([self], np.zeros(rows.shape, np.int8), rows, exact_QD, k)

    def propose(
        self, queries_QD: np.ndarray, candidates: int, score_QP: np.ndarray, probes_QP: np.ndarray, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores by hot codes, rows) of the best candidates of the lists that each query visits; [Q, candidates], row -1 = none."""
        native: Any = faiss
        scores = np.empty((len(queries_QD), candidates), np.float32)
        rows = np.empty((len(queries_QD), candidates), np.int64)
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        selector = {} if bits is None else {"sel": native.IDSelectorBitmap(bits)}
        asked = native.SearchParametersIVF(nprobe=probes_QP.shape[1], **selector)
        pointers = [native.swig_ptr(array) for array in (probes_QP, score_QP, scores, rows)]
        self._hot.search_preassigned_c(len(queries_QD), native.swig_ptr(queries_QD), candidates, *pointers, False, asked)
        return scores, rows

    def alive(self, allowed: np.ndarray | None) -> np.ndarray | None:
        """The rows that may be found."""
        if self._alive is None:
            return allowed
        return self._alive if allowed is None else self._alive & allowed

    def _search_cold(self, queries_QD: np.ndarray, k: int, nprobe: int, allowed: np.ndarray | None) -> Hits:
        _, probes_QP = self.coarse.search(queries_QD.astype(np.float32), nprobe)
        num_Q = np.diff(self._bounds)[probes_QP].sum(axis=1)
        scaled_QD, offset_Q = queries_QD * self.step_D, queries_QD @ self.first_D
        hits = no_hits(len(queries_QD), k)
        num_threads = faiss.omp_get_max_threads()
        most, blocks, first = -(-len(queries_QD) // num_threads), [], 0
        while first < len(queries_QD):
            fits = int(np.searchsorted(np.cumsum(num_Q[first : first + most]), SCORES_AT_ONCE // num_threads, side="right"))
            blocks.append(slice(first, first + max(1, min(fits, most))))
            first = blocks[-1].stop

        def scan(block: slice) -> None:
            self._scan(hits, block, probes_QP[block], scaled_QD[block], offset_Q[block], allowed)

        with ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(scan, blocks))
        return hits

    def _scan(
        self, hits: Hits, block: slice, probes_QP: np.ndarray, scaled_QD: np.ndarray, offset_Q: np.ndarray, allowed: Any
    ) -> None:
        """Lists in the outer loop: each is decoded once. Then the best of each query, over the pieces that it visited."""
        k = hits.scores.shape[1]
        visit = np.argsort(probes_QP, axis=None, kind="stable")
        query, visited = visit // probes_QP.shape[1], probes_QP.ravel()[visit]
        lists, start = np.unique(visited, return_index=True)
        pieces: list[list[np.ndarray]] = [[] for _ in probes_QP]
        rows: list[list[tuple[int, int]]] = [[] for _ in probes_QP]
        for one, begin, end in zip(lists.tolist(), start, np.append(start[1:], len(query)), strict=True):
            low, high = int(self._bounds[one]), int(self._bounds[one + 1])
            if low == high:
                continue
            asking = query[begin:end]
            codes_ND = self.codes_ND[low:high].astype(np.float64)
            scores_QN = (scaled_QD[asking] @ codes_ND.T + offset_Q[asking, None]).astype(np.float32)
            if allowed is not None:
                scores_QN[:, ~allowed[low:high]] = -np.inf
            for at, which in enumerate(asking.tolist()):
                pieces[which].append(scores_QN[at])
                rows[which].append((low, high))
        found = [best_rows(*both, k) for both in zip(pieces, rows, strict=True)]
        lengths = np.array([len(scores) for scores, _ in found])
        group = np.repeat(np.arange(len(found)), lengths)
        scores = np.concatenate([scores for scores, _ in found])
        ids = self.pair_ids[np.concatenate([rows for _, rows in found])]
        order = ranking(group, scores, ids)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = rank < k
        hits.scores[block][group[kept], rank[kept]] = scores[order][kept]
        hits.pair_ids[block][group[kept], rank[kept]] = ids[order][kept]


def _read(path: str, flags: int) -> faiss.Index:
    try:
        return faiss.read_index(path, flags)
    except (RuntimeError, MemoryError) as error:
        raise ArtifactCorrupt(f"{path} is no whole index shard; delete the index and build it again") from error


def _npy(array: np.ndarray) -> Iterator[Piece]:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    yield head.getvalue()
    yield array.data
