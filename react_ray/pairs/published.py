"""Converts published vectors to rows of `embeddings`: unit float16, whatever type the source has.

If the source has the similarity of image and text (LAION's `similarity`, DataComp's `clip_b32_similarity_score`), it is
compared with the similarity of the vectors, which proves that rows and vectors are in the same order.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.errors import ConfigError
from react_ray.pair_id import pair_ids
from react_ray.pairs.columns import find_columns
from react_ray.pairs.ingest_config import IngestConfig
from react_ray.vectors import unit_rows

TOLERANCE = 0.02  # float16 vectors are exact to 0.001; the similarity of another row differs by 0.05 and more
SHARE_ALLOWED = 0.01  # of rows that may differ by more than TOLERANCE
NOT_COMPARED = "none"


def to_vectors(table: pa.Table, part: int, config: IngestConfig, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns image and text vectors, float16 [N, D] of unit norm with NaN where there is none, and the status [N].

    Raises ConfigError if the vectors do not have the `dim` dimensions of the model, or if similarities show shifted
    rows.
    """
    found = find_columns(table.schema, config)
    status = np.full(len(table), schema.OK, dtype=object)
    sides = []
    for name in (found.image_vector, found.text_vector):
        given_ND = _matrix(table, name, dim) if name else np.full((len(table), dim), np.nan, np.float32)
        sides.append(unit_rows(given_ND))
        if name:
            has_values = pc.is_valid(table[name]).to_numpy(zero_copy_only=False)
            status[has_values & ~np.isfinite(sides[-1]).all(axis=1)] = schema.NOT_FINITE
    image_ND, text_ND = sides
    status[(status == schema.OK) & ~np.isfinite(image_ND).all(axis=1) & ~np.isfinite(text_ND).all(axis=1)] = (
        schema.EMPTY
    )
    if found.image_vector and found.text_vector:
        _check_order(table, part, config, (image_ND.astype(np.float32) * text_ND.astype(np.float32)).sum(axis=1))
    return image_ND, text_ND, status


def check_dimensions(table: pa.Table, config: IngestConfig, dim: int) -> None:
    """Raises ConfigError, before any work is done, if the first vectors do not have the dimensions of the model."""
    for name in find_columns(table.schema, config).vectors:
        _matrix(table, name, dim)


def _matrix(table: pa.Table, name: str, dim: int) -> np.ndarray:
    """Returns float32 [N, dim], with NaN for null rows."""
    column = table[name].combine_chunks()
    lengths = pc.list_value_length(column)
    wrong = [length for length in pc.unique(lengths).to_pylist() if length not in (dim, None)]
    if wrong:
        raise ConfigError(
            f"ingest.source: vectors of {name} have {wrong[0]} dimensions, those of the recipe's backbone {dim}; "
            "set backbone.name to the model that made them"
        )
    vector_ND = np.full((len(table), dim), np.nan, np.float32)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    values = column.filter(pa.array(valid)).flatten()
    vector_ND[valid] = values.to_numpy(zero_copy_only=False).reshape(-1, dim)
    return vector_ND


def _check_order(table: pa.Table, part: int, config: IngestConfig, similarity_N: np.ndarray) -> None:
    name = similarity_column(table.schema, config)
    if not name:
        return
    given_N = table[name].cast(pa.float32()).to_numpy()
    wrong = np.abs(given_N - similarity_N) > TOLERANCE  # False if either is NaN
    if wrong.sum() > SHARE_ALLOWED * len(table):
        row = int(np.flatnonzero(wrong)[0])
        raise ConfigError(
            f"ingest.source: {wrong.sum()} of {len(table)} rows of part {part} are not where their vectors are: "
            f"{name} of pair {pair_ids(part, len(table))[row]} is {given_N[row]:.3f}, "
            f"its vectors give {similarity_N[row]:.3f}; fetch the files again, "
            f"or set ingest.similarity_column={NOT_COMPARED} if it is of another model"
        )


def similarity_column(columns: pa.Schema, config: IngestConfig) -> str:
    """Returns the column that the recipe names, or one with a usual name; "" if nothing is to be compared."""
    named = config.similarity_column
    usual = [f"clip_{config.vector_prefix}_similarity_score"] if config.vector_prefix else ["similarity"]
    if named == NOT_COMPARED:
        return ""
    if named and named not in columns.names:
        raise ConfigError(f"ingest.similarity_column: no column {named!r}; name one of {', '.join(columns.names)}")
    return named or next((name for name in usual if name in columns.names), "")
