"""IndexShard: one FAISS index over some parts, with pair_ids as its ids.

Takes blocks of (pair_ids, vectors); gives hits for queries, and deterministic bytes. A flat shard returns the same ids
and scores as RunningTopK: FAISS proposes candidates in float32, the score of exact.py decides, and a query whose k-th
place float32 cannot decide is searched exactly. Coded shards (IVF, SQ8, ...) rank by FAISS's own scores, which depend
on the vector and the shared quantiser only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from react_ray.errors import ConfigError, RetrievalError
from react_ray.index.allowed import Allowed
from react_ray.index.config import IndexConfig, SearchParams
from react_ray.index.exact import RunningTopK, as_queries, finite_rows, float32_error, largest_norm
from react_ray.index.merge import NO_PAIR, Hits, best, check_k, no_hits
from react_ray.index.quantizer import empty_index, factory_string, from_payload, inverted_lists, read_index, threads

SPARE = 32  # candidates beyond k: they settle most ties at the k-th place without a second search
HITS_AT_ONCE = 1 << 22  # per call of FAISS: 50 MB
NUMBERS_AT_ONCE = 1 << 23  # in gathered candidate vectors in float64: 64 MB


def build_shard(
    vectors: Iterator[tuple[np.ndarray, np.ndarray]],
    config: IndexConfig,
    quantizer: bytes | None,
    num_threads: int = 1,
) -> IndexShard:
    """vectors: (pair_ids int64 [n], float16 [n, D]) per part. Null and NaN rows are left out."""
    index: faiss.Index | None = None
    with threads(num_threads):
        for pair_ids, vectors_ND in vectors:
            if index is None:
                index = _new_index(config, quantizer, vectors_ND.shape[1])
            elif vectors_ND.shape[1] != index.d:
                raise RetrievalError(
                    f"a part has vectors of dimension {vectors_ND.shape[1]}, the parts before it {index.d}; "
                    "embed all parts with the same backbone"
                )
            pair_ids, vectors_ND = finite_rows(np.asarray(pair_ids, dtype=np.int64), vectors_ND)
            if len(pair_ids):
                index.add_with_ids(np.ascontiguousarray(vectors_ND, dtype=np.float32), np.ascontiguousarray(pair_ids))
    if index is None:
        raise ConfigError("a shard of the index got no part; use fewer index.num_shards than there are parts")
    return IndexShard(index)


class IndexShard:
    """Searching is thread-safe: nothing changes after construction."""

    def __init__(self, index: faiss.Index, deleted: np.ndarray | None = None, allowed: Allowed | None = None) -> None:
        """deleted: sorted pair_ids that no search returns; allowed: the pairs that a search may return, None = all."""
        self._index = index
        self.filtered = allowed is not None  # so that a search may have to visit more lists
        unwanted = np.empty(0, np.int64)
        if self.filtered or (deleted is not None and len(deleted)):
            ids = self.all_ids()
            wanted = np.ones(len(ids), bool) if deleted is None else ~np.isin(ids, deleted)
            unwanted = ids[~wanted] if allowed is None else ids[~(wanted & allowed.contains(ids))]
        if len(unwanted) and _removed(index, unwanted):
            unwanted = unwanted[:0]
        self._unwanted = unwanted  # only for an index from which they cannot be removed
        self._only: np.ndarray | None = None  # bool [num_vectors], of a narrowed flat shard
        self._selector: faiss.SearchParameters | None = None
        self._flat, self._pair_ids = _flat_parts(index)
        if self._flat is not None:
            vectors_ND = _stored_vectors(self._flat)
            self._vectors_ND = vectors_ND
            self._largest_norm = largest_norm(vectors_ND)

    def narrowed(self, deleted: np.ndarray | None = None, allowed: Allowed | None = None) -> IndexShard:
        """Returns a shard that shares the vectors of this one and finds fewer pairs; the arguments as of __init__."""
        native: Any = faiss
        one = copy.copy(self)
        one.filtered = self.filtered or allowed is not None
        ids = self.all_ids() if self._flat is None else self._pair_ids
        wanted = np.ones(len(ids), bool) if allowed is None else allowed.contains(ids)
        if deleted is not None and len(deleted):
            wanted &= ~np.isin(ids, deleted)
        if self._flat is None:
            one._unwanted = np.union1d(self._unwanted, ids[~wanted])
        elif not wanted.all() or self._only is not None:
            one._only = wanted if self._only is None else wanted & self._only
            bits = np.packbits(one._only, bitorder="little")
            one._selector = native.SearchParameters(sel=native.IDSelectorBitmap(bits))
        return one

    @property
    def num_vectors(self) -> int:
        return int(self._index.ntotal)

    @property
    def num_lists(self) -> int:
        """The number of IVF lists; 0 if the index is not an IVF."""
        ivf = inverted_lists(self._index)
        return 0 if ivf is None else int(ivf.nlist)

    @property
    def family(self) -> str:
        """Decides which of SearchParams apply."""
        if self.num_lists:
            return "ivf"
        inner = faiss.downcast_index(self._index)
        inner = faiss.downcast_index(inner.index) if isinstance(inner, faiss.IndexIDMap) else inner
        return "hnsw" if isinstance(inner, faiss.IndexHNSW) else "none"

    @property
    def dim(self) -> int:
        return int(self._index.d)

    def search(self, queries_QD: np.ndarray, k: int, params: SearchParams | None = None) -> Hits:
        """queries: float32 [Q, D], unit norm. Returns Hits [Q, k]; of equal scores the smaller pair_id comes first."""
        check_k(k)
        params = params or SearchParams()
        queries_QD = as_queries(queries_QD, self.dim)
        if self._flat is None:
            return self._search_codes(queries_QD.astype(np.float32), k, params)
        return self._search_flat(queries_QD, k)

    def all_ids(self) -> np.ndarray:
        """Returns int64 [num_vectors], ascending."""
        index = faiss.downcast_index(self._index)
        if isinstance(index, faiss.IndexIDMap):
            return np.sort(faiss.vector_to_array(index.id_map))
        ivf = inverted_lists(index)
        assert ivf is not None, "an index keeps its ids in a map or in its lists"
        lists: Any = ivf.invlists
        filled = [one for one in range(ivf.nlist) if lists.list_size(one)]
        ids = [faiss.rev_swig_ptr(lists.get_ids(one), lists.list_size(one)).copy() for one in filled]
        return np.sort(np.concatenate([np.empty(0, np.int64), *ids]))

    def to_bytes(self) -> bytes:
        """Returns the bytes of a FAISS index: the same for the same vectors, order, configuration and quantiser."""
        return faiss.serialize_index(self._index).tobytes()

    @classmethod
    def from_bytes(
        cls, payload: bytes, deleted: np.ndarray | None = None, allowed: Allowed | None = None
    ) -> IndexShard:
        return cls(from_payload(payload), deleted, allowed)

    def write(self, path: str | Path) -> None:
        faiss.write_index(self._index, str(path))

    @classmethod
    def read(
        cls,
        path: str | Path,
        memory_map: bool = False,
        deleted: np.ndarray | None = None,
        allowed: Allowed | None = None,
    ) -> IndexShard:
        """memory_map: FAISS maps what it can instead of reading it (refine stores, IVF codes that are not
        fast-scan)."""
        return cls(read_index(path, faiss.IO_FLAG_MMAP_IFC if memory_map else 0), deleted, allowed)

    def _search_flat(self, queries_QD: np.ndarray, k: int) -> Hits:
        hits = no_hits(len(queries_QD), k)
        unsettled = np.arange(len(queries_QD))
        num_wanted = self.num_vectors if self._only is None else int(self._only.sum())
        for fetch in (k + SPARE, 4 * (k + SPARE)):
            if 2 * fetch >= num_wanted or not len(unsettled):
                break
            found, settled = self._propose(queries_QD[unsettled], k, fetch)
            hits.scores[unsettled[settled]] = found.scores[settled]
            hits.pair_ids[unsettled[settled]] = found.pair_ids[settled]
            unsettled = unsettled[~settled]
        if len(unsettled):
            scan = RunningTopK(k)
            rows = slice(None) if self._only is None else self._only
            scan.update(queries_QD[unsettled], self._pair_ids[rows], self._vectors_ND[rows])
            hits.scores[unsettled], hits.pair_ids[unsettled] = scan.result().scores, scan.result().pair_ids
        return hits

    def _propose(self, queries_QD: np.ndarray, k: int, fetch: int) -> tuple[Hits, np.ndarray]:
        """Returns the k best of FAISS's `fetch` best, and the queries for which no other vector can be among the k
        best."""
        assert self._flat is not None
        approximate, rows = self._flat.search(queries_QD.astype(np.float32), fetch, params=self._selector)
        scores = np.empty((len(queries_QD), fetch), dtype=np.float32)
        step = max(1, NUMBERS_AT_ONCE // (fetch * self.dim))
        for start in range(0, len(queries_QD), step):
            block = slice(start, start + step)
            gathered_QKD = self._vectors_ND[rows[block]].astype(np.float64)
            scores[block] = np.einsum("qkd,qd->qk", gathered_QKD, queries_QD[block])
        hits = best(scores, self._pair_ids[rows], k)
        margin_Q = float32_error(np.linalg.norm(queries_QD, axis=1), self._largest_norm, self.dim)
        ceiling_Q = (approximate[:, -1] + margin_Q).astype(np.float32)
        return hits, hits.scores[:, -1] > ceiling_Q

    def _search_codes(self, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
        """FAISS breaks ties at the last place arbitrarily, so more are fetched until the last score is below the k-th
        wanted one."""
        asked = _faiss_params(self._index, params)
        hits = no_hits(len(queries_QD), k)
        unsettled = np.arange(len(queries_QD))
        fetch = min(k + SPARE, max(1, self.num_vectors))
        while len(unsettled):
            left = []
            step = max(1, HITS_AT_ONCE // fetch)
            for rows in np.split(unsettled, range(step, len(unsettled), step)):
                scores, pair_ids = self._index.search(queries_QD[rows], fetch, params=asked)
                ended = pair_ids[:, -1] == -1
                wanted = ~np.isin(pair_ids, self._unwanted) if len(self._unwanted) else True
                found = best(scores, np.where(wanted, pair_ids, NO_PAIR), k)
                settled = ended | (scores[:, -1] < found.scores[:, -1]) | (fetch >= self.num_vectors)
                hits.scores[rows[settled]], hits.pair_ids[rows[settled]] = (
                    found.scores[settled],
                    found.pair_ids[settled],
                )
                left.append(rows[~settled])
            unsettled, fetch = np.concatenate(left), min(4 * fetch, self.num_vectors)
        return hits


def _new_index(config: IndexConfig, quantizer: bytes | None, dim: int) -> faiss.Index:
    index = empty_index(factory_string(config), dim) if quantizer is None else from_payload(quantizer)
    if index.d != dim:
        raise RetrievalError(
            f"the index was trained for dimension {index.d}, the embeddings have {dim}; train it on these embeddings"
        )
    if not index.is_trained:
        raise ConfigError(f"index.kind={config.kind!r} needs training; pass what quantizer.train returned")
    return index if _keeps_ids(index) else faiss.IndexIDMap2(index)


def _keeps_ids(index: faiss.Index) -> bool:
    """Returns True for an IVF, whose lists store ids; every other index needs a map from position to id."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return _keeps_ids(index.index)
    return isinstance(index, faiss.IndexIVF)


def _removed(index: faiss.Index, ids: np.ndarray) -> bool:
    """Removes these ids; returns False if this kind of index cannot."""
    native: Any = index
    try:
        native.remove_ids(np.ascontiguousarray(ids))
    except RuntimeError:  # HNSW, a refining index
        return False
    return True


def _flat_parts(index: faiss.Index) -> tuple[faiss.IndexFlat | None, np.ndarray]:
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexIDMap):
        inner = faiss.downcast_index(index.index)
        if isinstance(inner, faiss.IndexFlat):
            return inner, faiss.vector_to_array(index.id_map)
    return None, np.empty(0, dtype=np.int64)


def _stored_vectors(flat: faiss.IndexFlat) -> np.ndarray:
    """Returns float32 [n, D], a view of FAISS's own memory: the caller keeps the index alive."""
    if not flat.ntotal:
        return np.empty((0, flat.d), dtype=np.float32)
    return faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)


def _faiss_params(index: faiss.Index, params: SearchParams) -> faiss.SearchParameters | None:
    """A fresh parameter object for this request, nested as the index is; None = as built."""
    if params == SearchParams():
        return None
    native: Any = faiss  # its type stubs do not know the keyword arguments
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexIDMap):
        return _faiss_params(index.index, params)
    if isinstance(index, faiss.IndexPreTransform):
        return native.SearchParametersPreTransform(index_params=_faiss_params(index.index, params))
    if isinstance(index, faiss.IndexRefine):
        inner = _faiss_params(index.base_index, params)
        return native.IndexRefineSearchParameters(k_factor=params.k_factor or index.k_factor, base_index_params=inner)
    if isinstance(index, faiss.IndexIVF):
        return native.SearchParametersIVF(nprobe=min(params.nprobe or index.nprobe, index.nlist))
    if isinstance(index, faiss.IndexHNSW):
        return native.SearchParametersHNSW(efSearch=params.ef_search or index.hnsw.efSearch)
    return None
