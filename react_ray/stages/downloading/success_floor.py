"""Stops a download in which too few rows give an image."""

from __future__ import annotations

from collections import Counter

from react_ray.errors import SuccessTooLow
from react_ray.manifest import Receipt
from react_ray.pairs.download import DownloadConfig


class SuccessFloor:
    """Raises SuccessTooLow when a download gives almost no images, before the whole list is marked as failed."""

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
            f"download stopped: {ok} of {rows} rows gave an image, fewer than download.min_success = "
            f"{self.config.min_success:.1%} ({counts}); what is done is kept. `react-ray stats {self.uri}` says which "
            "hosts; when the cause is gone, run the same command to go on and --retry-failed after it, or set "
            "download.min_success=0 if the list is as dead as that"
        )
