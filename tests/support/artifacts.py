"""Small artifacts that tests of the foundation make."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.draft import Draft, create
from react_ray.kinds import Kind
from react_ray.storage import Storage, join

CONFIG = {"k": 10, "inner": {"rate": 0.5, "names": ["a"]}}


@dataclass(frozen=True)
class Facts:
    dim: int = 0
    parts: int = 0


PAIRS, IMAGES, INDEX = Kind("pairs", Facts, "ingest"), Kind("images", Facts, "download"), Kind("index", Facts, "index")


def table(part: int, text: str = "caption") -> pa.Table:
    size = 50 + part
    status = ["ok" if row % 5 else "undecodable" for row in range(size)]
    return pa.table({"row": range(size), "text": [f"{text} {row % 7}" for row in range(size)], "status": status})


def begin(place: Storage, kind: Kind[Facts] = PAIRS, num_parts: int = 3, **parents: Artifact) -> Draft[Facts]:
    return create(join(place.uri, kind.name), kind, CONFIG, parents, num_parts)


def finished(place: Storage, text: str = "caption", seconds: float = 1.0) -> Artifact[Facts]:
    draft = begin(place)
    for part in draft.pending():
        draft.commit(part, table(part, text), seconds)
    return draft.seal(Facts(dim=16))


def fill(draft: Draft[Facts], text: str = "caption") -> Artifact[Facts]:
    for part in draft.pending():
        draft.commit(part, table(part, text), 1.0)
    return draft.seal()
