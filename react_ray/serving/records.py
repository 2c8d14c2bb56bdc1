"""Records: captions, columns, images and vectors of pairs, read where the rows lie and kept for later requests."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.index.config import Key
from react_ray.index.metadata_files import MetadataFiles
from react_ray.index.shard_cache import ShardCache
from react_ray.kinds import NoFacts
from react_ray.pair_id import part_of, row_of
from react_ray.row_guard import texts
from react_ray.search.database import OpenDatabase
from react_ray.search.gather import gather, int64_array
from react_ray.serving.lru import Lru
from react_ray.serving.refusal import Refused
from react_ray.vectors import from_vectors

KEPT_BYTES = 256 << 20


class _Columns:
    """Columns of one part of `pairs`, for reading a few rows of it in microseconds."""

    def __init__(self, table: pa.Table | pa.RecordBatch, num_bytes: int) -> None:
        """num_bytes: of memory that would be free without it."""
        columns = {name: table[name] for name in table.schema.names}
        self.of = {name: _wide(one if isinstance(one, pa.Array) else _whole(one)) for name, one in columns.items()}
        self.pair_ids = self.of["pair_id"].to_numpy()
        self.num_bytes = num_bytes


class _Kept:
    """An artifact whose columns stay in memory, part by part."""

    def __init__(self, artifact: Artifact[Any]) -> None:
        self._artifact = artifact
        self._tables: Lru[tuple[Any, ...], pa.Table] = Lru(KEPT_BYTES, lambda table: table.nbytes)

    def read(self, part: int, columns: Any = None) -> pa.Table:
        return self._tables.get((part, *columns), lambda: self._artifact.read(part, columns))


class Records:
    def __init__(self, database: OpenDatabase, images: Artifact[NoFacts] | None, cache: ShardCache) -> None:
        """cache: of the files that an index with metadata has on a remote storage."""
        self.database, self.images_artifact = database, images
        self._mapped = MetadataFiles(database.index, cache) if database.index is not None else None
        self._pairs: Lru[tuple[Any, ...], _Columns] = Lru(KEPT_BYTES, lambda columns: columns.num_bytes)
        self._embeddings = _Kept(database.embeddings)
        self._stored: Lru[tuple[str, int], np.ndarray] = Lru(KEPT_BYTES, lambda mask: mask.nbytes)
        self.schema: pa.Schema = database.pairs_artifact.storage.parquet("part-00000.parquet").schema_arrow
        self._has_status = images is not None and "status" in self._names_of(images)

    @staticmethod
    def _names_of(images: Artifact[NoFacts]) -> list[str]:
        return images.storage.parquet("part-00000.parquet").schema_arrow.names if images.num_parts else []

    @property
    def columns(self) -> list[str]:
        return [name for name in self.schema.names if name != "pair_id"]

    def check_columns(self, columns: Sequence[str]) -> None:
        for name in columns:
            if name not in self.columns:
                known = ", ".join(self.columns)
                raise Refused(f"pairs have no column {name[:80]!r}; name one of {known}", field="columns")

    def known(self, pair_ids: Sequence[int]) -> np.ndarray:
        """int64 [N]. RetrievalError if one of them is no pair of the database, or is deleted."""
        ids = self.database.known(pair_ids)
        if len(gone := ids[np.isin(ids, self.database.deleted)]):
            raise Refused(f"pair {gone[0]} was deleted; take the pair_id of a hit", status=404, code="not_found")
        return ids

    def columns_of(self, pair_ids: np.ndarray, names: Sequence[str]) -> dict[str, list[Any]]:
        """Column -> its values for these pairs, as JSON has them; None throughout for one that is not there."""
        return {name: as_list(values) for name, values in self.arrays_of(pair_ids, names).items()}

    def arrays_of(self, pair_ids: np.ndarray, names: Sequence[str]) -> dict[str, pa.Array]:
        """As columns_of, in Arrow; strings are large_string, a column that is not there has the type null."""
        there = [name for name in self.schema.names if name in names]
        order = np.argsort(pair_ids)
        parts, rows = part_of(pair_ids)[order], row_of(pair_ids)[order]
        starts = np.flatnonzero(np.diff(parts, prepend=-1)).tolist() if there else []
        pieces: dict[str, list[pa.Array]] = {name: [] for name in there}
        at, ids = int64_array(rows), np.empty(len(rows), np.int64)
        for start, end in zip(starts, [*starts[1:], len(order)] if starts else [], strict=True):
            columns = self._columns_of(int(parts[start]), ["pair_id", *there])
            ids[start:end] = columns.pair_ids[rows[start:end]]
            here = at.slice(start, end - start)
            for name in there:
                pieces[name].append(columns.of[name].take(here))
        assert not starts or (ids == pair_ids[order]).all(), "rows are not where their ids say"
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        found = {name: pa.concat_arrays(some).take(int64_array(back)) for name, some in pieces.items() if some}
        return {name: found.get(name, pa.nulls(len(pair_ids))) for name in names}

    def _columns_of(self, part: int, names: list[str]) -> _Columns:
        mapped, pairs = self._mapped, self.database.pairs_artifact
        if mapped is not None and part in mapped:
            return self._pairs.get((part,), lambda: _Columns(mapped.batch(part), 0))
        return self._pairs.get((part, *names), lambda: _Columns(table := pairs.read(part, names), table.nbytes))

    def stored(self, pair_ids: np.ndarray) -> np.ndarray:
        """bool [N]: the database holds the pair's image."""
        out = np.zeros(len(pair_ids), bool)
        if self.images_artifact is None:
            return out
        parts, rows = part_of(pair_ids), row_of(pair_ids)
        for part in np.unique(parts[parts < self.images_artifact.num_parts]).tolist():
            mine = parts == part
            out[mine] = self._stored_of(part)[rows[mine]]
        return out

    def _stored_of(self, part: int) -> np.ndarray:
        images = self.images_artifact
        assert images is not None

        def made() -> np.ndarray:
            if not self._has_status:
                return np.ones(images.receipt(part).rows, bool)
            status = images.read(part, ["status"])["status"]
            return pc.fill_null(pc.equal(status, schema.OK), False).to_numpy()  # type: ignore[no-any-return]

        return self._stored.get((images.content, part), made)

    def image(self, pair_id: int) -> bytes | None:
        """The encoded image of a pair; None if the database has none."""
        [known] = self.known([pair_id])
        images = self.images_artifact
        if images is None or part_of(known) >= images.num_parts:
            return None
        table = images.read_rows(int(part_of(known)), int(row_of(known)), 1, ["image"])
        found: bytes | None = table["image"][0].as_py()
        return found

    def vectors(self, pair_ids: np.ndarray, key: Key) -> np.ndarray:
        """float16 [N, D], NaN where a pair has none."""
        if not len(pair_ids):
            return np.empty((0, self.database.embeddings.facts.dim), np.float16)
        return from_vectors(gather(self._embeddings, pair_ids, ["pair_id", key])[key])


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _wide(column: pa.Array) -> pa.Array:
    """The parts of a database may have captions of both widths."""
    return column.cast(pa.large_string()) if pa.types.is_string(column.type) else column


def as_list(column: pa.Array) -> list[Any]:
    """The values of a column as JSON has them."""
    if pa.types.is_large_string(column.type):
        return texts(pa.chunked_array([column]), "replace")
    return [as_json(value) for value in column.to_pylist()]


def as_json(value: Any) -> Any:
    """A value of a column as JSON can say it; bytes are left out."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)):
        return str(value)
    if isinstance(value, dict):
        return {str(name): as_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(one) for one in value]
    return None if isinstance(value, bytes) else value
