"""Makes a database of vectors from a seed: `pairs/` and `embeddings/` as the stages write them, and a recipe for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.draft import Draft, create
from react_ray.kinds import EMBEDDINGS, PAIRS, EmbeddingsFacts, PairsFacts
from react_ray.pair_id import pair_ids
from react_ray.recipe import Recipe
from react_ray.vectors import embeddings_table

BACKBONE = {"name": "made", "weights_sha256": "0" * 64}


def clustered(num: int, dim: int, seed: int, noise: float = 0.7, shift: float = 0.0) -> np.ndarray:
    """Returns float16 [num, dim], unit norm, around shared centres; `shift` moves all of them, as captions lie beside
    images."""
    centres = np.random.default_rng(1).standard_normal((max(4, num // 40), dim))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, len(centres), num)] + noise * random.standard_normal((num, dim)) + shift
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def write_part(
    pairs: Draft[PairsFacts], embeddings: Draft[EmbeddingsFacts], part: int, image: np.ndarray, text: np.ndarray
) -> None:
    ids = pair_ids(part, len(image))
    captions = [f"caption {pair}" for pair in ids.tolist()]
    table = pa.table({"pair_id": ids, "url": [f"http://e.org/{c[8:]}" for c in captions], "caption": captions})
    pairs.commit(part, table.append_column("width", pa.array(ids % 1000, pa.int32())), 0.0)
    status = np.array([schema.OK] * len(ids), object)
    embeddings.commit(part, embeddings_table(pa.array(ids), image, text, status, {}), 0.0)


def write_database(uri: str, parts: int, rows: int, dim: int = 16, first: int = 0) -> None:
    """Writes the parts from `first` on; an existing database grows."""
    pairs = create(f"{uri}/pairs", PAIRS, {}, {}, parts, grows=True)
    embeddings = create(f"{uri}/embeddings", EMBEDDINGS, {}, {}, parts, grows=True)
    assert pairs.pending() == list(range(first, parts))
    for part in range(first, parts):
        image, text = clustered(rows, dim, 2 * part), clustered(rows, dim, 2 * part + 1, 0.9, 0.3)
        image[rows // 2] = np.nan  # a row whose image failed
        write_part(pairs, embeddings, part, image, text)
    pairs.seal()
    embeddings.seal(EmbeddingsFacts(BACKBONE, dim))


def recipe_over(uri: str, out: Path, **index: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "vectors",
            "database": uri,
            "out": str(out),
            "backbone": {"name": "made"},
            "ingest": {"source": "none"},
            "index": index,
            "cluster": {"num_cpus": 2, "num_searchers": 2, "threads_per_actor": 1},
        }
    )


def unit_vectors(num: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((num, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
