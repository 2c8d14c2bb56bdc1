"""Makes vectors with the shape of CLIP's from a seed.

They lie in clusters within clusters of very different sizes, with a falling spectrum and a common mean (two random
vectors have a cosine of 0.4), and are more or less typical of their cluster. There are two kinds of held-out queries:
image-like ones of the same distribution, and text-like ones beside it and noisier (the modality gap). The spreads were
chosen so that codes find about as much as on other made vectors of this kind: `at_nprobe_16_k_factor_10` of
bench_index.py.

`write` makes a database of such vectors part by part, so that any number fits in memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.draft import create
from react_ray.kinds import EMBEDDINGS, EmbeddingsFacts
from react_ray.pair_id import pair_ids
from react_ray.vectors import embeddings_table

ROWS_PER_PART = 62_500
COARSE, FINE = 300, 20_000
BACKBONE = {"name": "made", "weights_sha256": "0" * 64}


class Mixture:
    def __init__(self, dim: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.spectrum = (np.arange(1, dim + 1) ** -0.25).astype(np.float32)
        coarse = 0.8 * random.standard_normal((COARSE, dim), dtype=np.float32)
        self.centre = coarse[random.integers(0, COARSE, FINE)] + 0.8 * random.standard_normal(
            (FINE, dim), dtype=np.float32
        )
        self.share = random.pareto(1.2, FINE) + 0.1
        self.share /= self.share.sum()
        self.mean = 1.2 * random.standard_normal(dim, dtype=np.float32)
        self.gap = random.standard_normal(dim, dtype=np.float32)
        self.dim = dim

    def draw(self, num: int, seed: int, text: bool = False) -> np.ndarray:
        """Returns float16 [num, D], unit norm."""
        random = np.random.default_rng([seed, int(text)])
        vectors = self.centre[random.choice(FINE, num, p=self.share)]
        spread_N1 = (1.0 if text else 0.9) * np.exp(0.3 * random.standard_normal((num, 1), dtype=np.float32))
        vectors += spread_N1 * random.standard_normal((num, self.dim), dtype=np.float32)
        vectors += self.mean + (self.gap if text else 0)
        vectors *= self.spectrum
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float16)


def write(uri: str, num: int, dim: int, text_rows: int = 1000) -> tuple[Mixture, Artifact]:
    """`embeddings/` of num pairs; captions' vectors are there for the first `text_rows` of each part only. What is
    there stays."""
    mixture = Mixture(dim)
    rows_per_part = max(1, min(ROWS_PER_PART, num // 8))  # 8 parts at least: shards are made of parts
    num_parts = -(-num // rows_per_part)
    embeddings = create(str(Path(uri, "embeddings")), EMBEDDINGS, {"made": num, "dim": dim}, {}, num_parts)
    for part in embeddings.pending():
        rows = min(rows_per_part, num - part * rows_per_part)
        text = np.full((rows, dim), np.nan, np.float16)
        text[:text_rows] = mixture.draw(min(rows, text_rows), part, text=True)
        status = np.array([schema.OK] * rows, object)
        table = embeddings_table(pa.array(pair_ids(part, rows)), mixture.draw(rows, part), text, status, {})
        embeddings.commit(part, table, 0.0)
    return mixture, embeddings.seal(EmbeddingsFacts(BACKBONE, dim))
