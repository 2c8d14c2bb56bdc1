"""Downloads one part of `pairs` to a part of `images`."""

from __future__ import annotations

import pyarrow as pa

from react_ray.draft import Draft
from react_ray.kinds import NoFacts
from react_ray.manifest import Receipt
from react_ray.pairs.download import DownloadConfig, download, retry
from react_ray.runtime.map_parts import RowWork
from react_ray.web.fetch import Fetcher


class Download:
    """Turns a part of `pairs` into a part of `images`.

    The threads of a process share its Fetcher and so all limits. A table that a killed run has written is not fetched
    again.
    """

    def __init__(self, config: DownloadConfig, images: Draft[NoFacts] | None) -> None:
        self.config, self.images = config, images

    def setup(self) -> None:
        self.fetcher = Fetcher(self.config)

    def __call__(self, part: int, table: pa.Table, retry_failed: bool = False) -> pa.Table:
        images = self.images.written(part) if self.images is not None else None
        if images is None or images["pair_id"] != table["pair_id"]:
            images = download(table, self.fetcher, self.config)
        elif retry_failed:
            images = retry(table, images, self.fetcher, self.config)
        return images.combine_chunks()


class DownloadPart(RowWork):
    """Downloads and commits a part, in an actor that several threads call."""

    def __init__(self, config: DownloadConfig, images: Draft[NoFacts], retry_failed: bool) -> None:
        self.download, self.images, self.retry_failed = Download(config, images), images, retry_failed

    def setup(self) -> None:
        self.download.setup()

    def payload(self, table: pa.Table) -> list[str]:
        return ["url"]

    def make(self, part: int, table: pa.Table) -> dict[str, pa.Table]:
        return {"images": self.download(part, table, self.retry_failed)}

    def commit(self, part: int, table: pa.Table, made: dict[str, pa.Table], seconds: float) -> Receipt:
        return self.images.recommit(part, made["images"], seconds)
