"""Reports on a download, finished or running: statuses, hosts, sizes and rates.

It reads the receipts and a few columns of an artifact of images, but no image.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from react_ray.artifact import Parts
from react_ray.draft import open_unfinished
from react_ray.kinds import IMAGES
from react_ray.manifest import Receipt
from react_ray.pairs.image_urls import check_images, find_urls, with_urls
from react_ray.schema import OK
from react_ray.web.status import is_retriable

NUM_HOSTS = 50
NO_HOST = "(no host)"


@dataclass
class Stats:
    parts: int
    receipts: list[Receipt]
    statuses: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)  # rows by host; empty if no URL is known
    hosts_ok: Counter[str] = field(default_factory=Counter)
    pairs: str = ""  # URI of the artifact that the URLs are read from, "" = none lies beside the images
    shorter_sides: Counter[int] = field(default_factory=Counter)  # pixels of the originals

    @property
    def rows(self) -> int:
        return self.statuses.total()

    @property
    def ok(self) -> int:
        return self.statuses[OK]


def stats(uri: str) -> str:
    """Returns the report as text. Raises ArtifactMissing or ArtifactMismatch if there are no images."""
    images = open_unfinished(uri, IMAGES)
    check_images(images)
    return _text(images.uri, collect_stats(images))


def stats_value(uri: str) -> dict[str, Any]:
    """The same for programs: counts by status and by host, the most frequent first."""
    images = open_unfinished(uri, IMAGES)
    check_images(images)
    found = collect_stats(images)
    return {
        "uri": images.uri,
        "parts": found.parts,
        "parts_done": len(found.receipts),
        "rows": found.rows,
        "images": found.ok,
        "bytes": sum(receipt.bytes for receipt in found.receipts),
        "seconds": round(sum(receipt.seconds for receipt in found.receipts), 3),
        "may_pass_if_retried": _may_pass(found),
        "statuses": dict(_ordered(found.statuses)),
        "hosts": [{"host": host, "rows": n, "images": found.hosts_ok[host]} for host, n in _ordered(found.hosts)],
    }


def collect_stats(images: Parts) -> Stats:
    pairs = find_urls(images)
    found = Stats(images.num_parts, images.receipts(), pairs=pairs.uri if pairs else "")
    for receipt in found.receipts:
        found.statuses.update(receipt.statuses)
    for table in with_urls(images, ["status", "original_width", "original_height"]):
        sizes = zip(table["original_width"].to_pylist(), table["original_height"].to_pylist(), strict=True)
        found.shorter_sides.update(min(width, height) for width, height in sizes if width and height)
        if table["url"].null_count == len(table):
            continue
        for url, status in zip(table["url"].to_pylist(), table["status"].to_pylist(), strict=True):
            host = host_of(url)
            found.hosts[host] += 1
            found.hosts_ok[host] += status == OK
    return found


def host_of(url: str | None) -> str:
    try:
        return urlsplit(url or "").hostname or NO_HOST
    except ValueError:
        return NO_HOST


def _text(uri: str, found: Stats) -> str:
    seconds = sum(receipt.seconds for receipt in found.receipts)
    num_bytes = sum(receipt.bytes for receipt in found.receipts)
    may_pass = _may_pass(found)
    lines = [
        f"{uri}: {len(found.receipts)} of {found.parts} parts, {found.rows:,} rows, "
        f"{found.ok:,} images ({_share(found.ok, found.rows)})",
        f"{num_bytes / 2**20:,.1f} MB stored, {num_bytes / max(found.ok, 1) / 2**10:,.1f} kB per image",
        f"{seconds:,.0f} s of work on parts, {found.rows / max(seconds, 1e-6):,.0f} rows and "
        f"{found.ok / max(seconds, 1e-6):,.0f} images per second of it",
    ]
    if found.shorter_sides:
        low, middle, high = (_quantile(found.shorter_sides, share) for share in (0.1, 0.5, 0.9))
        lines.append(f"shorter side of the originals: {low} (10 %), {middle} (half), {high} pixels (90 %)")
    if may_pass:
        lines.append(
            f"{may_pass:,} rows may give an image when they are asked again: react-ray download --retry-failed RECIPE"
        )
    lines += ["", f"{'status':<24}{'rows':>12}  share"]
    lines += [f"{status:<24}{n:>12,}  {_share(n, found.rows)}" for status, n in _ordered(found.statuses)]
    if found.hosts:
        shown = _ordered(found.hosts)[:NUM_HOSTS]
        lines += ["", f"{'host':<40}{'rows':>12}{'images':>12}  share   ({len(shown)} of {len(found.hosts):,} hosts)"]
        lines += [
            f"{host:<40}{n:>12,}{found.hosts_ok[host]:>12,}  {_share(found.hosts_ok[host], n)}" for host, n in shown
        ]
    else:
        why = f"{found.pairs} has no URLs" if found.pairs else "no pairs/ or retrieved/ with these rows lies beside it"
        lines += ["", f"hosts: not known, because {why}"]
    return "\n".join(lines)


def _may_pass(found: Stats) -> int:
    return sum(count for status, count in found.statuses.items() if is_retriable(status))


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"


def _quantile(counts: Counter[int], share: float) -> int:
    left = share * counts.total()
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return max(counts)
