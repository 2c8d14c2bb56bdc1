"""IndexConfig and SearchParams: how an index is built, and what one request may ask of it. Next: quantizer.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from react_ray.section import Section, field

FLAT = "flat"
Key = Literal["image", "text"]


class IndexConfig(Section):
    kind: str = field(
        FLAT, '"flat" = exact, 4 bytes x D per vector; or a FAISS factory string ("IVF1024,SQ8": faster, less memory)'
    )
    num_shards: int = field(1, "shards that are built and searched in parallel; each is one file", ge=1)
    keys: list[Key] = field(["image", "text"], "sides of a pair that get an index each", min_length=1)
    nprobe: int = field(16, "IVF lists that a query visits; time grows with it and so does recall", ge=1)
    train_sample: int = field(
        262_144, "random vectors that train IVF lists and codes; 4 bytes x D of memory each", ge=1
    )


@dataclass(frozen=True)
class SearchParams:
    """Of one request; 0 = what the index was built with. A shared index is never changed to serve a request."""

    nprobe: int = 0  # IVF lists to visit
    k_factor: float = 0.0  # candidates per hit that a refining index re-ranks
    ef_search: int = 0  # width of an HNSW search
