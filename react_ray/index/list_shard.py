"""ListShardBuilder: builds the files of an ivf-rabitq shard.

    hot.faiss    FAISS IVF of RaBitQ fast-scan blocks; its ids are row numbers, all shards share its quantiser
    cold.faiss   FAISS SQ8 codes, row by row
    ids.npy      pair_id of each row

Rows are sorted by list, then by pair_id: the codes of a list can be scanned as one range, the codes that a query
re-ranks lie close together, and the files do not depend on the order in which vectors came.

FAISS writes the same bytes from an index that holds all codes; this builder writes them in pieces. 250,000 x 512 take
15.7 CPU-seconds and 433 MB, and 17.3 and 657 MB through FAISS (python tests/benchmark/bench_own_faiss.py).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np

from react_ray.draft import Piece
from react_ray.errors import RetrievalError
from react_ray.index.exact import finite_rows
from react_ray.index.kmeans import Assigner
from react_ray.index.quantizer import as_built, from_payload

FILES = ("hot.faiss", "cold.faiss", "ids.npy")
CODE_BITS_OF_QUERY = 8  # in RaBitQ; FAISS's default for fast-scan
ROWS_AT_ONCE = 1 << 16  # rows of cold codes that are written at a time


class ListShardBuilder:
    """Takes vectors part by part, keeps their codes (D + D/8 + 20 bytes each), gives the files of a shard."""

    def __init__(self, quantizer: bytes) -> None:
        self._owner = from_payload(quantizer)
        self._trained: Any = as_built(self._owner)
        self._hot: Any = as_built(self._trained.base_index)
        self._cold: Any = as_built(self._trained.refine_index)
        self._assigner = Assigner(as_built(self._hot.quantizer).reconstruct_n())
        self._ids: list[np.ndarray] = []
        self._lists: list[np.ndarray] = []
        self._hot_codes: list[np.ndarray] = []
        self._cold_codes: list[np.ndarray] = []

    def add(self, pair_ids: np.ndarray, vectors_ND: np.ndarray) -> None:
        """vectors: float16 or float32 [n, D]. Null and NaN rows are left out."""
        if vectors_ND.shape[1] != self._trained.d:
            raise RetrievalError(
                f"the index was trained for dimension {self._trained.d}, a part has vectors of dimension "
                f"{vectors_ND.shape[1]}; "
                "train it on these embeddings, all of the same backbone"
            )
        pair_ids, vectors_ND = finite_rows(np.asarray(pair_ids, dtype=np.int64), vectors_ND)
        if not len(pair_ids):
            return
        vectors_ND = np.ascontiguousarray(vectors_ND, dtype=np.float32)
        lists = self._assigner.assign(vectors_ND)
        wide = lists.astype(np.int64)
        codes = np.empty((len(lists), self._hot.code_size), np.uint8)
        self._hot.encode_vectors(len(lists), faiss.swig_ptr(vectors_ND), faiss.swig_ptr(wide), faiss.swig_ptr(codes))
        self._ids.append(pair_ids)
        self._lists.append(lists)
        self._hot_codes.append(codes)
        self._cold_codes.append(self._cold.sa_encode(vectors_ND))

    def finish(self) -> tuple[np.ndarray, dict[str, bytes | Iterator[Piece]]]:
        """Returns (pair_ids in the order of rows, the bytes of each of FILES in pieces)."""
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
        """Writes the file that FAISS writes of an IndexScalarQuantizer, without a second copy of the codes in
        memory."""
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
    """Returns the centroids of the lists from the bytes that train() returned."""
    trained = as_built(owner := from_payload(quantizer))
    coarse = faiss.clone_index(as_built(trained.base_index).quantizer)
    del owner
    return coarse


def _npy(array: np.ndarray) -> Iterator[Piece]:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    yield head.getvalue()
    yield array.data
