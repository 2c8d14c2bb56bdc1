"""AskedQueries: the queries of a retrieval as arrays, ordered by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray.artifact import Artifact
from react_ray.kinds import QueriesFacts
from react_ray.selection.hit_columns import first_of_name
from react_ray.vectors import from_vectors


@dataclass(frozen=True)
class AskedQueries:
    """Queries, ordered by class and query_id: query_id [Q], class [Q] (of equal names the first), class_name [Q],
    is_text bool [Q] and vectors float32 [Q, D]."""

    query_Q: np.ndarray
    class_Q: np.ndarray
    name_Q: np.ndarray
    text_Q: np.ndarray
    vectors_QD: np.ndarray

    @classmethod
    def read(cls, queries: Artifact[QueriesFacts]) -> AskedQueries:
        columns = ["query_id", "class_id", "task", "class_name", "modality", "embedding"]
        table = pa.concat_tables(queries.tables(columns)).combine_chunks()
        query_id, class_id = table["query_id"].to_numpy(), first_of_name(table)
        names, is_text = table["class_name"].to_numpy(), pc.equal(table["modality"], "text").to_numpy()
        asked = cls(query_id, class_id, names, is_text, from_vectors(table["embedding"]).astype(np.float32))
        return asked.take(np.lexsort((query_id, class_id)))

    def take(self, rows: np.ndarray) -> AskedQueries:
        return AskedQueries(
            self.query_Q[rows], self.class_Q[rows], self.name_Q[rows], self.text_Q[rows], self.vectors_QD[rows]
        )

    def names(self, rows: np.ndarray) -> str:
        """Returns the classes of these rows as the beginning of a sentence."""
        first, last = self.name_Q[rows[0]], self.name_Q[rows[-1]]
        return f"the class {first!r} was" if first == last else f"the classes {first!r} to {last!r} were"
