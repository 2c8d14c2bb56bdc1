"""The scales of the keys come from a retrieval's own queries and from pairs of all the database but deleted ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from react_ray.artifact import open_artifact
from react_ray.draft import create
from react_ray.kinds import EMBEDDINGS, PAIRS, QUERIES, QueriesFacts
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.measure_scales import measure_scales
from react_ray.vectors import as_vectors, from_vectors
from tests.support.vector_database import BACKBONE, unit_vectors, write_database


@pytest.mark.parametrize("num_deleted", [0, 100])
def test_each_kind_of_query_is_compared_with_each_key(tmp_path: Path, num_deleted: int) -> None:
    uri = str(tmp_path / "database")
    write_database(uri, 2, 150)
    embeddings = open_artifact(f"{uri}/embeddings", EMBEDDINGS)
    database = Database(open_artifact(f"{uri}/pairs", PAIRS), embeddings, None, np.arange(num_deleted))
    asked, modality = unit_vectors(30, 16, 7), ["text"] * 20 + ["image"] * 10
    queries = create(str(tmp_path / "queries"), QUERIES, {}, {}, 1)
    queries.commit(0, pa.table({"modality": modality, "embedding": as_vectors(asked)}), 0.0)
    found = measure_scales(queries.seal(QueriesFacts(BACKBONE, 16, 30)), database, ["image", "text"])
    table = pa.concat_tables(embeddings.tables())
    kept = table["pair_id"].to_numpy() >= num_deleted
    for key in ("image", "text"):
        vectors = from_vectors(table[key]).astype(np.float64)[kept]
        vectors = vectors[np.isfinite(vectors).all(axis=1)]
        for kind, rows in (("text", slice(20)), ("image", slice(20, 30))):
            cosine = asked[rows].astype(np.float64) @ vectors.T
            np.testing.assert_allclose(found[kind, key], (cosine.mean(), cosine.std()), rtol=1e-9)
