"""An artifact of images in; the `pairs` or `retrieved` beside it, which has the URLs of its rows, out. Next: stats.py."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from react_ray.artifact import MANIFEST, Artifact, open_artifact, plan_of
from react_ray.errors import ArtifactMismatch
from react_ray.storage import join, open_storage

WITH_URLS = ("retrieved", "pairs")


def check_images(images: Artifact) -> None:
    if images.kind != "images":
        raise ArtifactMismatch(f"{images.uri} holds {images.kind}; name an artifact of images, such as <database>/images")


def find_urls(images: Artifact) -> Artifact | None:
    """None if there is none with the same parts, or if what is there is not what the images were made of."""
    folder = images.uri.rpartition("/")[0]
    parents = plan_of(images.uri).get("parents", {})
    for kind in WITH_URLS:
        uri = join(folder, kind)
        if open_storage(uri).exists(MANIFEST):
            found = open_artifact(uri, kind)
            if found.num_parts == images.num_parts and parents.get(kind, found.content) == found.content:
                return found
    return None


def with_urls(images: Artifact, columns: list[str]) -> Iterator[pa.Table]:
    """These columns of each part that is done, and `url`: null where it is not known. One part in memory at a time."""
    pairs = find_urls(images)
    for part in images.done():
        table = images.read(part, ["pair_id", *columns])
        urls = pa.nulls(len(table), pa.string())
        if pairs is not None:
            there = pairs.read(part, ["pair_id", "url"])
            if there["pair_id"] == table["pair_id"]:
                urls = there["url"]
        yield table.append_column("url", urls)
