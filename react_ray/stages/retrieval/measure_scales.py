"""Measures the scale of each key's cosines between the queries of a retrieval and pairs from all over the database."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from react_ray.artifact import Artifact
from react_ray.index.config import Key
from react_ray.kinds import QueriesFacts
from react_ray.search.key_search import KeySearch
from react_ray.selection.claims import Scales
from react_ray.selection.key_scales import key_scales
from react_ray.stages.retrieval.database import Database
from react_ray.vectors import from_vectors


def measure_scales(queries: Artifact[QueriesFacts], database: Database, keys: Sequence[Key]) -> Scales:
    """Reads a column of up to four parts of the embeddings for each key."""
    asked = pa.concat_tables(queries.tables(["modality", "embedding"]))
    kinds = {kind: asked.filter(pc.equal(asked["modality"], kind))["embedding"] for kind in ("text", "image")}
    return key_scales(
        {kind: from_vectors(vectors) for kind, vectors in kinds.items() if len(vectors)},
        {key: KeySearch(database.embeddings, None, key, database.deleted).sample_ND for key in keys},
    )
