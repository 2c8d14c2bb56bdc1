"""References: the images of evaluation sets, which nothing that is chosen may be near to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.errors import ConfigError
from react_ray.kinds import NoFacts
from react_ray.progress import say
from react_ray.vectors import from_vectors


@dataclass(frozen=True)
class References:
    """Their hashes uint64 [M], and their vectors float16 [R, D], unit norm."""

    hashes: np.ndarray
    vectors_RD: np.ndarray

    @classmethod
    def load(cls, references: Artifact[NoFacts]) -> References:
        """ConfigError if no evaluation image can be decoded; says how many cannot, since they exclude nothing."""
        table = pa.concat_tables(references.tables())
        if unreadable := table["phash"].null_count:
            told = f"{unreadable:,} of {table.num_rows:,} images of retrieve.decontaminate.datasets cannot be decoded"
            if unreadable == table.num_rows:
                raise ConfigError(f"{told}; name sets of encoded images")
            say(f"{told}; nothing is excluded for them")
        vectors_RD = from_vectors(table["image"])
        return cls(table["phash"].drop_null().to_numpy(), vectors_RD[np.isfinite(vectors_RD).all(axis=1)])
