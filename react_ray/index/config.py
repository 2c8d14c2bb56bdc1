"""IndexConfig and SearchParams: how an index is built, and the parameters of one search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from react_ray.section import Section, field, speed

AUTO, FLAT, IVF_SQ8, IVF_RABITQ = "auto", "flat", "ivf-sq8", "ivf-rabitq"
Key = Literal["image", "text"]


class IndexConfig(Section):
    kind: str = field(
        AUTO,
        '"flat" = exact, 4 bytes x D of memory per vector; "ivf-sq8" = D bytes; "ivf-rabitq" = D/8 + 8 bytes, and D '
        'bytes on disk for re-ranking; any FAISS factory string ("HNSW32"); "auto" = chosen by memory_gb and recall',
    )
    num_lists: int = field(
        0, "IVF lists; more make a search faster and the training slower; 0 = chosen by the number of vectors", ge=0
    )
    num_shards: int = field(
        0, "shards that are built and searched in parallel; 0 = as many as build_memory_gb needs", ge=0
    )
    keys: list[Key] = field(["image", "text"], "sides of a pair that get an index each", min_length=1)
    recall: float = field(0.95, "target recall of a search; a higher one costs time (0.90, 0.95, 0.99)", gt=0, le=1)
    memory_gb: float = field(
        8, "memory that the index may take while it is searched, all shards of a key together, GB", gt=0
    )
    build_memory_gb: float = field(2.5, "memory that building one shard may take, GB", gt=0)
    nprobe: int = field(0, "IVF lists that a query visits; 0 = as the calibration found for `recall`", ge=0)
    k_factor: float = field(0, "candidates per hit that are re-ranked; 0 = as the calibration found for `recall`", ge=0)
    train_sample: int = field(
        262_144, "random vectors that train IVF lists and codes; 4 bytes x D of memory each", ge=1
    )
    calibration_queries: int = field(
        500,
        "held-out captions, and as many held-out images, that measure recall in every build; 0 = it is not measured",
        ge=0,
    )
    calibration_k: Literal[1000, 10_000] = field(
        1000,
        "hits per query up to which recall is measured; 10000 is for retrieve.k or pairs_per_class above 1000, and "
        "makes the build longer",
    )
    metadata: bool = field(
        False,
        "write url, caption and the other columns of `pairs` beside each shard, as Arrow that `serve` maps instead of "
        "reading Parquet; about three times the bytes of `pairs`",
    )
    train_threads: int = speed(0, "threads that train the lists; 0 = all cores of the machine", ge=0)

    def named(self, found: SearchParams) -> SearchParams:
        """Returns what the calibration found, or in its place what the recipe names."""
        return replace(found, nprobe=self.nprobe or found.nprobe, k_factor=self.k_factor or found.k_factor)


@dataclass(frozen=True)
class SearchParams:
    """Parameters of one search; 0 = the index's own default. A search never changes the index, which threads share.

    For an ivf-rabitq shard, k_factor = 0 compares the query with all 8-bit codes of the visited lists.
    """

    nprobe: int = 0  # IVF lists to visit
    k_factor: float = 0.0  # candidates per hit that a refining index re-ranks
    ef_search: int = 0  # width of an HNSW search
