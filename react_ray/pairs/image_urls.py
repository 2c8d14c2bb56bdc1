"""An artifact of images in; the `pairs` or `retrieved` beside it, which has the URLs of its rows, out. Next: stats.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from react_ray.artifact import Artifact, Parts, open_artifact, plan_of
from react_ray.errors import ArtifactMismatch
from react_ray.kinds import IMAGES, PAIRS, RETRIEVED, Kind
from react_ray.manifest import MANIFEST
from react_ray.storage import join, open_storage

WITH_URLS: tuple[Kind[Any], ...] = (RETRIEVED, PAIRS)


def check_images(images: Parts) -> None:
    if images.kind != IMAGES:
        raise ArtifactMismatch(
            f"{images.uri} holds {images.kind.name}; name an artifact of images, such as <database>/images"
        )


def find_urls(images: Parts) -> Artifact | None:
    """None if there is none with these parts (it may have got more since), or if it is not what the images were made of."""
    folder = images.uri.rpartition("/")[0]
    parents = plan_of(images.uri).get("parents", {})
    for kind in WITH_URLS:
        uri = join(folder, kind.name)
        if open_storage(uri).exists(MANIFEST):
            found = open_artifact(uri, kind)
            if found.num_parts >= images.num_parts and parents.get(kind.name) in (
                None,
                found.content_of(images.num_parts),
            ):
                return found
    return None


OWN = {"pair_id", "url", "caption", "class_id", "score", "matches", "text_embedding"}


def extra_columns(images: Parts) -> list[pa.Field]:
    """What the list of URLs had besides URL and caption."""
    pairs = find_urls(images)
    if pairs is None or not (done := pairs.done()):
        return []
    return [field for field in pairs.read(done[0]).schema if field.name not in OWN]


def with_urls(images: Parts, columns: list[str], extra: list[str] | None = None) -> Iterator[pa.Table]:
    """These columns of each part that is done, and of its pairs `url` and `extra`: null where they are not known.

    One part in memory at a time.
    """
    pairs = find_urls(images)
    wanted = ["url", *(extra or [])]
    for part in images.done():
        table = images.read(part, ["pair_id", *columns])
        there = pairs.read(part, ["pair_id", *wanted]) if pairs is not None else None
        for name in wanted:
            known = there is not None and there["pair_id"] == table["pair_id"]
            table = table.append_column(
                name, there[name] if there is not None and known else pa.nulls(len(table), pa.string())
            )
        yield table
