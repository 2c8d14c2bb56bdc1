"""One part of a download: rows of `pairs` in, rows of `images` out, and a limit below which the whole download stops."""

from __future__ import annotations

import time
from collections import Counter

import pyarrow as pa

from react_ray.draft import Draft
from react_ray.errors import SuccessTooLow
from react_ray.kinds import NoFacts
from react_ray.manifest import Receipt
from react_ray.pairs.download import DownloadConfig, download, retry
from react_ray.runtime.map_parts import Work
from react_ray.web.fetch import Fetcher


class Download:
    """`pairs` in, `images` out; threads share the Fetcher and so all its limits. What a kill left written is not asked again."""

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


class DownloadPart(Work):
    """Lives in an actor, called by several threads."""

    def __init__(self, config: DownloadConfig, images: Draft[NoFacts], retry_failed: bool) -> None:
        self.download, self.images, self.retry_failed = Download(config, images), images, retry_failed

    def setup(self) -> None:
        self.download.setup()

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        images = self.download(part, table, self.retry_failed)
        return self.images.recommit(part, images, time.monotonic() - began)


class Floor:
    """Stops a download that gives next to nothing, while most of the list has not been asked yet."""

    def __init__(self, config: DownloadConfig, uri: str) -> None:
        self.config, self.uri = config, uri
        self.statuses: Counter[str] = Counter()

    def __call__(self, receipt: Receipt) -> None:
        self.statuses.update(receipt.statuses)
        rows, ok = self.statuses.total(), self.statuses["ok"]
        if rows < self.config.min_success_after or ok >= self.config.min_success * rows:
            return
        counts = ", ".join(f"{status} {count}" for status, count in self.statuses.most_common(8))
        raise SuccessTooLow(
            f"download stopped: {ok} of {rows} rows gave an image, fewer than download.min_success = {self.config.min_success:.1%} ({counts}); "
            f"what is done is kept. `react-ray stats {self.uri}` says which hosts; when the cause is gone, run the same command to go on and "
            "--retry-failed after it, or set download.min_success=0 if the list is as dead as that"
        )
