"""RetrieveConfig: what is searched, which pairs are kept, and for which class.

`keys` are the sides of a pair that a query is compared with. In the REACT paper's terms, comparing a class's sentence
with images is T2I and with captions T2T; comparing a seed image (tasks.seed_images) with images is I2I.
"""

from __future__ import annotations

import math
from typing import Literal

from react_ray.errors import ConfigError
from react_ray.index.config import Key
from react_ray.section import Section, field, speed

Prompts = Literal["separate", "averaged"]
ALL = "all"  # sets of evaluate.datasets
K = 100  # hits per query and key, where nothing asks for a number
MARGIN = 1.5  # pairs of a class that are searched, in multiples of pairs_per_class: some fall to another class
DEEPER = 64  # times the depth of the first search: a class that is short there has no pairs that are about it


class DedupConfig(Section):
    """Of pairs that show one picture, only the pair with the best score is kept, so that none is trained on twice."""

    url: bool = field(False, "pairs with equal URLs are duplicates")
    sha256: bool = field(False, "pairs whose image files are equal byte for byte are duplicates")
    phash: int = field(
        -1,
        "pairs whose perceptual hashes differ in at most this many of 64 bits are duplicates; -1 = off",
        ge=-1,
        le=11,
    )
    cosine: float = field(
        0.0, "pairs whose image vectors have at least this cosine are duplicates; 0 = off", ge=0, le=1
    )


class DecontaminateConfig(Section):
    """A pair whose image is this close to an image of an evaluation set is never retrieved."""

    datasets: list[str] = field(
        [],
        "evaluation sets: names from evaluate.datasets, or URIs of Parquet files with a column image; [all] = all of "
        "evaluate.datasets",
    )
    phash: int = field(
        -1, "too close: perceptual hashes that differ in at most this many of 64 bits; -1 = off", ge=-1, le=11
    )
    cosine: float = field(0.0, "too close: image vectors with at least this cosine; 0 = off", ge=0, le=1)

    def sources(self, sets: dict[str, str]) -> list[str]:
        """URIs of the evaluation sets. sets: evaluate.datasets. ConfigError for a name that is none of them."""
        if self.datasets == [ALL]:
            if not sets:
                raise ConfigError(
                    "retrieve.decontaminate.datasets=[all], but evaluate.datasets is empty; name the sets there"
                )
            return list(sets.values())
        for name in self.datasets:
            if name not in sets and "/" not in name:
                raise ConfigError(
                    f"retrieve.decontaminate.datasets: {name!r} is none of evaluate.datasets ({', '.join(sets)}); name "
                    "one of them or a URI"
                )
        return [sets.get(name, name) for name in self.datasets]


class RetrieveConfig(Section):
    keys: list[Key] = field(["image", "text"], "sides of a pair that queries are compared with", min_length=1)
    search: Literal["index", "exact"] = field(
        "index", "search the FAISS shards, or all embeddings exactly without an index"
    )
    prompts: Prompts = field(
        "separate", "one query per class and template (as REACT), or one per class: the mean of its templates"
    )
    k: int = field(
        0,
        "hits per query and key, all of which are candidates; 0 = as deep as pairs_per_class needs, or 100 where that "
        "is 0",
        ge=0,
    )
    max_k: int = field(
        0,
        "classes with fewer than pairs_per_class pairs are searched again 4 times as deep, up to this depth; 0 = up "
        "to 64 times the depth of the first search, or never if k is set",
        ge=0,
    )
    selection: Literal["hits", "random", "string"] = field(
        "hits",
        "hits = pairs that the search found; controls: random = as many pairs from the whole pool, string = pairs "
        "whose caption contains a name of the class (as REAL)",
    )
    fusion: Literal["score", "z-score", "rank"] = field(
        "score",
        "what a class's claim on a pair is: its best cosine; z-score = its best cosine, in standard deviations above "
        "the mean cosine of queries and any pairs on that key; rank = reciprocal ranks summed over keys (and prompts, "
        "with k)",
    )
    pairs_per_class: int = field(0, "unique pairs per class at most, best first; 0 = all that were hit", ge=0)
    exclusive: bool = field(True, "a pair counts for its best class only; false: it counts for every class that hit it")
    image_share: float = field(
        0.0,
        "share of a class's pairs that are its best by image, the others are its best by caption; 0 = whichever claims "
        "are strongest",
        ge=0,
        lt=1,
    )
    min_score: float = field(-1.0, "hits with a lower cosine are dropped")
    min_score_of: dict[Key, float] = field({}, "hits of this key with a lower cosine are dropped as well")
    min_image_score: float = field(
        -1.0,
        "pairs whose image has a lower cosine with every query of their class are dropped, whichever key found them; "
        "-1 = off",
        ge=-1,
        le=1,
    )
    min_match: float = field(
        0.0,
        "classes that no caption names, and whose best hit is fewer standard deviations above those of random queries, "
        "get no pairs; 0 = off",
        ge=0,
    )
    max_pairs: int = field(0, "pairs in all; classes give up their worst pairs first; 0 = no limit", ge=0)
    max_per_domain: int = field(
        0,
        "pairs per class from one host at most, best first; classes that fall short are searched deeper; 0 = no limit",
        ge=0,
    )
    filters: list[str] = field(
        [],
        "conditions on columns of the pairs and images, checked before ranking: 'width >= 200', 'NSFW in UNLIKELY, "
        "UNSURE', 'host not in example.com'; similarity (image to caption) and host are computed where the source has "
        "none",
    )
    exclude: list[int | str] = field(
        [], "pairs that are never retrieved: their pair_ids, or URIs of text files with one pair_id a line"
    )
    dedup: DedupConfig = field(DedupConfig(), "which pairs are duplicates of one another")
    decontaminate: DecontaminateConfig = field(DecontaminateConfig(), "which pairs belong to an evaluation set")
    poor_below: int = speed(1, "the report names classes with fewer pairs than this", ge=0)

    def floor(self, key: Key) -> float:
        return max(self.min_score, self.min_score_of.get(key, -1.0))

    @property
    def by_class(self) -> bool:
        """True if a search keeps the best pairs of each class, and not all hits of each query."""
        return not self.k and self.pairs_per_class > 0

    @property
    def first_k(self) -> int:
        """The depth of the first search: hits of each query and key, or pairs of each class and key."""
        if self.by_class:
            return math.ceil(MARGIN * self.pairs_per_class)
        return self.k or K

    @property
    def deepest_k(self) -> int:
        """The depth at which a class that is short of pairs is given up."""
        if self.by_class:
            return max(self.max_k, self.first_k) if self.max_k else DEEPER * self.first_k
        return max(self.max_k, self.first_k)
