"""BuildShard: builds one shard of the index from its parts of the embeddings, and the exact hits that measure its
recall.

Takes the number of a shard; reads the embeddings a part at a time; commits the shard's files, its metadata if
index.metadata is set, and the exact hits of the held-out queries among its vectors, so that measuring recall needs no
second pass. A shard gets every num_shards-th part, so that losing one costs recall evenly.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact, open_artifact
from react_ray.draft import Draft, Piece
from react_ray.index import metadata_files
from react_ray.index.config import FLAT, IVF_RABITQ, IndexConfig
from react_ray.index.held_out import Truth, depths, read_queries
from react_ray.index.list_shard import ListShardBuilder
from react_ray.index.quantizer import threads
from react_ray.index.shard import build_shard
from react_ray.index.shards import quantizer_name, shard_name
from react_ray.kinds import EMBEDDINGS, PAIRS, EmbeddingsFacts, IndexFacts, PairsFacts
from react_ray.manifest import Receipt
from react_ray.runtime.map_parts import Work
from react_ray.runtime.memory import give_back
from react_ray.storage import open_storage
from react_ray.vectors import from_vectors


class BuildShard(Work):
    def __init__(
        self,
        embeddings: Artifact[EmbeddingsFacts],
        pairs: Artifact[PairsFacts] | None,
        index: Draft[IndexFacts],
        config: IndexConfig,
        parts: list[int],
        deleted: np.ndarray,
        num_threads: int,
    ) -> None:
        self.embeddings, self.pairs, self.index, self.config = embeddings, pairs, index, config
        self.parts, self.deleted, self.num_threads = parts, deleted, num_threads

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        with threads(self.num_threads):
            receipt = self._build(part)
        give_back()
        return receipt

    def _build(self, part: int) -> Receipt:
        began = time.monotonic()
        key = self.config.keys[part // self.config.num_shards]
        shard = part % self.config.num_shards
        storage = open_storage(self.index.uri)
        quantizer = storage.read(quantizer_name(key)) if storage.exists(quantizer_name(key)) else None
        queries = read_queries(storage, key) if self.config.kind != FLAT else {}
        truth = Truth(queries, depths(self.config.calibration_k))
        embeddings = open_artifact(self.embeddings.uri, EMBEDDINGS)
        sources = self.parts[shard :: self.config.num_shards]

        def read(source: int) -> tuple[np.ndarray, np.ndarray]:
            columns = embeddings.read(source, ["pair_id", key])
            pair_ids, vectors_ND = columns["pair_id"].to_numpy(), from_vectors(columns[key])
            kept = ~np.isin(pair_ids, self.deleted)
            return (pair_ids, vectors_ND) if kept.all() else (pair_ids[kept], vectors_ND[kept])

        def vectors() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            """Encodes a part while threads read the next one and search its exact hits: NumPy, FAISS and Arrow release
            the GIL."""
            with ThreadPoolExecutor(2) as pool:
                coming, searching = pool.submit(read, sources[0]), None
                for after in [*sources[1:], None]:
                    found = coming.result()
                    if searching:
                        searching.result()
                    searching = pool.submit(truth.update, *found)
                    if after is not None:
                        coming = pool.submit(read, after)
                    yield found
                if searching:
                    searching.result()

        name = shard_name(key, shard)
        files: dict[str, bytes | Iterator[Piece]] = {}
        if self.config.kind == IVF_RABITQ:
            assert quantizer is not None, "the stage trains before it builds"
            builder = ListShardBuilder(quantizer)
            for pair_ids, vectors_ND in vectors():
                builder.add(pair_ids, vectors_ND)
            ids, pieces = builder.finish()
            files |= {f"{name}.{suffix}": data for suffix, data in pieces.items()}
        else:
            built = build_shard(vectors(), self.config, quantizer)
            ids = built.all_ids()
            files[f"{name}.faiss"] = built.to_bytes()
        facts: dict[str, Any] = {} if quantizer is None else {"quantizer": hashlib.sha256(quantizer).hexdigest()}
        if self.pairs is not None and key == self.config.keys[0]:  # the rows of a part are the same for all keys
            pairs = open_artifact(self.pairs.uri, PAIRS)
            files[metadata_files.file_name(shard)] = metadata_files.as_arrow(pairs.read(source) for source in sources)
            facts["metadata_of"] = sources
        files |= {f"{name}.{suffix}": data for suffix, data in truth.files().items()}
        return self.index.commit_files(part, files, time.monotonic() - began, len(ids), **facts)
