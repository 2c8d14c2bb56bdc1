"""Joins stored images with their URLs, which are in the `pairs` or `retrieved` that lies beside the images."""

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
    """Raises ArtifactMismatch for an artifact of another kind."""
    if images.kind != IMAGES:
        raise ArtifactMismatch(
            f"{images.uri} holds {images.kind.name}; name an artifact of images, such as <database>/images"
        )


def find_urls(images: Parts) -> Artifact | None:
    """Returns the artifact with the URLs; None if the images were not made from one, or were made from another.

    It may have more parts than the images, if files were added to its source since.
    """
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
    """Returns the columns that the URL list had besides URL and caption."""
    pairs = find_urls(images)
    if pairs is None or not (done := pairs.done()):
        return []
    return [field for field in pairs.read(done[0]).schema if field.name not in OWN]


def with_urls(images: Parts, columns: list[str], extra: list[str] | None = None) -> Iterator[pa.Table]:
    """Yields `columns` of each finished part, joined with `url` and the `extra` columns of its pairs.

    The joined columns are null where they are not known. One part is in memory at a time.
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
