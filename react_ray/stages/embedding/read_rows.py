"""Reads the rows that embed works on from `images/` or `pairs/`, or fetches their images from the web.

This file imports no torch, so that the processes that read start in a moment.
"""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.draft import Draft
from react_ray.errors import ReactRayError
from react_ray.kinds import IMAGES, NoFacts
from react_ray.pair_id import pair_ids
from react_ray.pairs.download import COLUMNS as URL_COLUMNS
from react_ray.pairs.download import DownloadConfig
from react_ray.runtime.map_parts import RowChange
from react_ray.stages.downloading.download_part import Download

COLUMNS = ["pair_id", "caption", "image", "status"]  # what clip/embed.py takes


class ReadRows:
    """Reads a part of `images` or `pairs`.

    with_urls: read the columns that FetchImages takes, instead of COLUMNS. If `pairs` is read, the column image is
    null.
    """

    def __init__(self, rows: Artifact, with_urls: bool) -> None:
        self.rows, self.with_urls = rows, with_urls

    def __call__(self, part: int) -> pa.Table:
        if self.with_urls or self.rows.kind == IMAGES:
            return self.rows.read(part, URL_COLUMNS if self.with_urls else COLUMNS)
        table = self.rows.read(part, ["pair_id", "caption"])
        table = table.append_column("image", pa.nulls(len(table), pa.binary()))
        return table.append_column("status", pa.array([schema.OK] * len(table)))


class Quarantine:
    """Makes the rows of a part that cannot be read: as many as its receipt counts, so that no pair_id changes."""

    def __init__(self, rows: Artifact) -> None:
        self.rows = rows

    def __call__(self, part: int, error: ReactRayError) -> pa.Table:
        num_rows = self.rows.receipt(part).rows
        columns = {"pair_id": pa.array(pair_ids(part, num_rows)), "status": pa.array([schema.CORRUPT] * num_rows)}
        columns |= {"caption": pa.nulls(num_rows, pa.string()), "image": pa.nulls(num_rows, pa.binary())}
        columns["url"] = pa.nulls(num_rows, pa.string())
        return pa.table(columns | {"error": pa.array([str(error)] * num_rows)})


class FetchImages(RowChange):
    """Turns a part of `pairs` into one of `images` by fetching, in several threads of an actor.

    images: draft in which the part is stored, None = it is only handed on.
    """

    def __init__(self, config: DownloadConfig, images: Draft[NoFacts] | None) -> None:
        self.download, self.images = Download(config, images), images

    def setup(self) -> None:
        self.download.setup()

    columns: ClassVar[list[str]] = COLUMNS

    def payload(self, table: pa.Table) -> list[str]:
        return ["url"]

    def make(self, part: int, table: pa.Table) -> pa.Table:
        return self.download(part, table)

    def store(self, part: int, made: pa.Table, seconds: float) -> None:
        if self.images is not None:
            self.images.recommit(part, made, seconds)

    def __call__(self, part: int, table: pa.Table) -> pa.Table:
        return table if "error" in table.column_names else super().__call__(part, table)
