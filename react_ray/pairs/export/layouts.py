"""Writes one shard of an export in a layout of img2dataset 1.47, with its names, keys, metadata, statuses and stats.

Metadata are written in groups of META_ROWS rows; images go straight into the tar or the folder.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import Self

from react_ray import schema
from react_ray.pairs.image_kind import kind_of
from react_ray.storage import Storage

Layout = Literal["webdataset", "parquet", "files"]
SHARD_DIGITS = 5
META_ROWS = 100
# Statuses that img2dataset counts as failed_to_resize, since it has the bytes by then; others are failed_to_download.
OF_RESIZING = frozenset(
    {
        schema.UNDECODABLE,
        schema.NOT_AN_IMAGE,
        schema.TOO_LARGE,
        schema.TOO_SLOW,
        schema.TOO_SMALL,
        schema.TOO_LARGE_AREA,
        schema.ASPECT,
        schema.EMPTY,
    }
)
META = pa.schema(
    [(name, pa.string()) for name in ("url", "caption", "key", "status", "error_message")]
    + [(name, pa.int32()) for name in ("width", "height", "original_width", "original_height")]
    + [("sha256", pa.string())]
)


@dataclass(frozen=True)
class Row:
    """One row of `images`, with its URL and the further columns of its pair."""

    url: str | None
    caption: str
    image: bytes | None
    width: int | None
    height: int | None
    original_width: int | None
    original_height: int | None
    sha256: str | None
    status: str
    error: str | None
    ok: bool
    extra: dict[str, Any]


class Shard:
    """Has what all layouts share: keys, metadata and stats."""

    def __init__(self, storage: Storage, number: int, rows_per_shard: int, suffix: str, extra: list[pa.Field]) -> None:
        self.storage, self.number, self.suffix = storage, number, suffix
        self.columns = pa.schema([*META, *extra])
        self.name = f"{number:0{SHARD_DIGITS}d}"
        self.key_digits = math.ceil(math.log10(rows_per_shard))
        self.count = self.successes = 0
        self.statuses: Counter[str] = Counter()
        self.failed = Counter({"failed_to_download": 0, "failed_to_resize": 0})
        self.opened = ExitStack()
        self.began = time.time()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.opened.__exit__(kind, error, trace)

    def meta(self, row: Row) -> dict[str, Any]:
        """Counts the row and returns its metadata as img2dataset would write them."""
        key = f"{self.number * 10**self.key_digits + self.count:0{self.key_digits + SHARD_DIGITS}d}"
        self.count += 1
        sizes = {name: getattr(row, name) for name in ("width", "height", "original_width", "original_height")}
        if row.ok:
            self.successes += 1
            self.statuses["success"] += 1
            status, message = "success", None
        else:
            status = "failed_to_resize" if row.status in OF_RESIZING else "failed_to_download"
            message = f"{row.status}: {row.error}" if row.error else row.status
            self.failed[status] += 1
            self.statuses[row.status] += 1
        known = {"url": row.url, "caption": row.caption, "key": key, "status": status, "error_message": message}
        return known | sizes | {"sha256": row.sha256} | row.extra

    def write_stats(self) -> None:
        ended = time.time()
        stats = {
            "count": self.count,
            "successes": self.successes,
            "failed_to_download": self.failed["failed_to_download"],
            "failed_to_resize": self.failed["failed_to_resize"],
            "duration": ended - self.began,
            "start_time": self.began,
            "end_time": ended,
            "status_dict": dict(self.statuses.most_common()),
        }
        self.storage.write(f"{self.name}_stats.json", json.dumps(stats, indent=4).encode())


class _Table:
    """Writes 00000.parquet."""

    def __init__(self, shard: Shard, columns: pa.Schema) -> None:
        self.columns, self.rows = columns, list[dict[str, Any]]()
        file = shard.opened.enter_context(shard.storage.writing(f"{shard.name}.parquet"))
        self.writer = shard.opened.enter_context(pq.ParquetWriter(file, columns))

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) == META_ROWS:
            self.flush()

    def flush(self) -> None:
        self.writer.write_table(pa.Table.from_pylist(self.rows, self.columns))
        self.rows.clear()


class Parquet:
    """Writes metadata and images into one table."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.table = _Table(shard, shard.columns.append(pa.field(shard.suffix, pa.binary())))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.table.flush()

    def write(self, row: Row) -> None:
        self.table.add(self.shard.meta(row) | {self.shard.suffix: row.image if row.ok else None})


class Files:
    """Writes the table of metadata, and three files for each image into a folder."""

    def __init__(self, shard: Shard) -> None:
        self.shard, self.table = shard, _Table(shard, shard.columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.table.flush()

    def write(self, row: Row) -> None:
        meta = self.shard.meta(row)
        if row.ok:
            assert row.image is not None, "an image that is ok has bytes"
            self.add(f"{meta['key']}.{kind_of(row.image) or self.shard.suffix}", row.image)
            self.add(f"{meta['key']}.txt", row.caption.encode())
            self.add(f"{meta['key']}.json", json.dumps(meta, indent=4, default=str).encode())
        self.table.add(meta)

    def add(self, name: str, data: bytes) -> None:
        self.shard.storage.write(f"{self.shard.name}/{name}", data)


class WebDataset(Files):
    """Writes the three files of each image into a tar instead of a folder."""

    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        file = shard.opened.enter_context(shard.storage.writing(f"{shard.name}.tar"))
        self.tar = shard.opened.enter_context(tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT))

    def add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o444
        self.tar.addfile(member, io.BytesIO(data))


LAYOUTS: dict[str, type[Parquet] | type[Files]] = {"webdataset": WebDataset, "parquet": Parquet, "files": Files}
