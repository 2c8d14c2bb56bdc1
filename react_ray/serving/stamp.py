"""Stamp: names one state of a database, so that all processes that answer a request speak of the same one."""

from __future__ import annotations

from dataclasses import dataclass

from react_ray.artifact import open_artifact
from react_ray.index.deleted import FOLDER
from react_ray.index.shards import DELTAS
from react_ray.kinds import EMBEDDINGS, INDEX, PAIRS
from react_ray.manifest import MANIFEST
from react_ray.section import digest
from react_ray.storage import join, open_storage


@dataclass(frozen=True)
class Stamp:
    """vectors: of pairs, embeddings, index and deltas; deleted: of all deletions. Shards stay open when only pairs were
    deleted."""

    vectors: str
    deleted: str

    def __str__(self) -> str:
        return f"{self.vectors}-{self.deleted}"


def stamp_of(uri: str) -> Stamp:
    """The state of the database at this URI now. ArtifactError while it has no finished pairs or embeddings."""
    contents = [open_artifact(join(uri, kind.name), kind).content for kind in (PAIRS, EMBEDDINGS)]
    place = join(uri, INDEX.name)
    index = open_storage(place)
    if index.exists(MANIFEST):
        contents.append(open_artifact(place, INDEX).content)
        names = sorted({path.split("/")[1] for path in index.list(DELTAS) if path.endswith(f"/{MANIFEST}")})
        contents += [f"{name} {open_artifact(join(place, DELTAS, name), INDEX).content}" for name in names]
    deletions = sorted(open_storage(join(uri, FOLDER)).list())
    return Stamp(digest(contents)[:12], digest(deletions)[:8])
