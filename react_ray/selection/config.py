"""RetrieveConfig: what is searched, what of it is kept, and for which class.

`keys` are the sides of a pair that a query is compared with. A class's sentence against images is T2I of the REACT paper,
against captions T2T; a seed image (tasks.seed_images) against images is I2I. Next: select.py.
"""

from __future__ import annotations

from typing import Literal

from react_ray.index.config import Key
from react_ray.section import Section, field, speed

Prompts = Literal["separate", "averaged"]


class DedupConfig(Section):
    """Of pairs that are one picture, the one with the best score stays: nothing else may be trained on twice."""

    url: bool = field(False, "pairs with equal URLs are one")
    sha256: bool = field(False, "pairs whose image files are equal byte for byte are one")
    phash: int = field(
        -1, "pairs whose perceptual hashes differ in at most this many of 64 bits are one; -1 = off", ge=-1, le=11
    )
    cosine: float = field(0.0, "pairs whose image vectors are at least this similar are one; 0 = off", ge=0, le=1)


class DecontaminateConfig(Section):
    """Nothing that is as near as this to an image of an evaluation set is retrieved."""

    datasets: list[str] = field(
        [],
        "names from evaluate.datasets, or URIs of Parquet files with a column image; [all] = all of evaluate.datasets",
    )
    phash: int = field(-1, "too near: hashes that differ in at most this many of 64 bits; -1 = off", ge=-1, le=11)
    cosine: float = field(0.0, "too near: image vectors at least this similar; 0 = off", ge=0, le=1)


class RetrieveConfig(Section):
    keys: list[Key] = field(["image", "text"], "sides of a pair that queries are compared with", min_length=1)
    search: Literal["index", "exact"] = field("index", "FAISS shards, or exact over the embeddings without an index")
    prompts: Prompts = field(
        "separate", "one query per class and template (as REACT), or one per class: the mean of its templates"
    )
    k: int = field(100, "hits per query and key; more candidates, more time and memory", ge=1)
    max_k: int = field(
        0,
        "queries of classes with fewer than pairs_per_class are asked again, 4 x k at a time up to this; 0 = never",
        ge=0,
    )
    selection: Literal["hits", "random", "string"] = field(
        "hits",
        "controls: random = as many pairs from the whole pool; string = pairs whose caption has a name of the class (as REAL)",
    )
    fusion: Literal["score", "rank"] = field(
        "score", "a pair's claim on a class: its best score, or reciprocal ranks summed over prompts and keys"
    )
    pairs_per_class: int = field(0, "unique pairs that a class takes at most, best first; 0 = all that were hit", ge=0)
    exclusive: bool = field(True, "a pair counts for its best class only; else for every class that hit it")
    min_score: float = field(-1.0, "hits with a lower cosine are dropped")
    max_pairs: int = field(0, "pairs in all; classes give up their worst first; 0 = no limit", ge=0)
    balance: float = field(
        0.0, "no class takes more than this times what the smallest class (with any) has; 0 = off", ge=0
    )
    max_per_domain: int = field(
        0,
        "pairs that a class takes from one host at most, best first; classes that fall short ask for more up to max_k; 0 = no limit",
        ge=0,
    )
    filters: list[str] = field(
        [],
        "conditions on columns of the pairs and images, checked before ranking: 'width >= 200', 'NSFW in UNLIKELY, UNSURE', "
        "'host not in example.com'; similarity (image to caption) and host are computed where the source has none",
    )
    dedup: DedupConfig = field(DedupConfig(), "pairs that are one picture")
    decontaminate: DecontaminateConfig = field(DecontaminateConfig(), "pairs that are in an evaluation set")
    poor_below: int = speed(1, "the report names classes with fewer pairs than this", ge=0)
