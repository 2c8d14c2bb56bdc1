"""Filters: the conditions of `retrieve.filters` over the columns of a database.

The conditions may name columns of pairs and images, and two computed ones, the host and the similarity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.index.allowed import Allowed
from react_ray.kinds import EmbeddingsFacts, NoFacts, PairsFacts
from react_ray.manifest import part_name
from react_ray.selection.filters import Condition, check_columns, parse
from react_ray.selection.screen import hosts
from react_ray.vectors import from_vectors

HOST, SIMILARITY = "host", "similarity"  # computed where the source has no such column
URL = "url"
NOT_FILTERED = {"pair_id", "image"}


@dataclass(frozen=True)
class Filters:
    conditions: list[Condition]
    pairs: Artifact[PairsFacts]
    embeddings: Artifact[EmbeddingsFacts]
    images: Artifact[NoFacts] | None
    of_pairs: dict[str, pa.DataType]  # columns that are read there
    of_images: dict[str, pa.DataType]

    @classmethod
    def over(
        cls,
        texts: list[str],
        pairs: Artifact[PairsFacts],
        embeddings: Artifact[EmbeddingsFacts],
        images: Artifact[NoFacts] | None,
    ) -> Filters:
        """ConfigError for a text that is no condition, that names a column which is not there, or that compares it with
        a value of another type."""
        conditions = parse(texts)
        of_pairs, of_images = _types(pairs), {} if images is None else _types(images)
        computed = {SIMILARITY: pa.float32()} | ({HOST: pa.string()} if URL in of_pairs else {})
        types = computed | of_images | of_pairs
        check_columns(conditions, sorted(types))
        if HOST not in of_pairs | of_images:
            conditions = [
                replace(c, values=tuple(map(_as_host, c.values))) if c.column == HOST else c for c in conditions
            ]
        for condition in conditions:  # on no rows
            condition.judge(pa.chunked_array([], types[condition.column]))
        return cls(conditions, pairs, embeddings, images, of_pairs, of_images)

    def judge(self, part: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields for each condition, bool [rows of the part]: which rows pass it, and which have a value that can be
        compared."""
        for condition in self.conditions:
            yield condition.judge(self._column(part, condition.column))

    def allowed(self) -> Allowed:
        """The pairs that pass all conditions."""
        found = Allowed()
        for part in range(self.embeddings.num_parts):
            found.add(part, np.logical_and.reduce([passed for passed, _ in self.judge(part)]))
        return found

    def _column(self, part: int, name: str) -> pa.ChunkedArray:
        if name in self.of_pairs:
            return self.pairs.read(part, [name])[name]
        if name in self.of_images and self.images is not None:
            if part >= self.images.num_parts:  # of pairs that were added: none of their images is there yet
                return pa.chunked_array([pa.nulls(self.pairs.receipt(part).rows, self.of_images[name])])
            return self.images.read(part, [name])[name]
        if name == HOST:
            return hosts(self.pairs.read(part, [URL])[URL])
        vectors = self.embeddings.read(part, ["image", "text"])
        sides = (from_vectors(vectors[side]).astype(np.float32) for side in ("image", "text"))
        return pa.chunked_array([pa.array(np.einsum("nd,nd->n", *sides), from_pandas=True)])


def _as_host(value: str) -> str:
    """The form in which `hosts` writes a host."""
    return value.lower().removeprefix("www.")


def _types(artifact: Artifact) -> dict[str, pa.DataType]:
    """The columns that can be filtered by."""
    if not artifact.num_parts:
        return {}
    columns = artifact.storage.parquet(f"{part_name(0)}.parquet").schema_arrow
    return {field.name: field.type for field in columns if field.name not in NOT_FILTERED}
