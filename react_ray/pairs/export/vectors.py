"""Exports embeddings as the files of clip-retrieval 2.45, which autofaiss and `clip-retrieval index` and `back` read.

    img_emb/img_emb_0.npy  text_emb/text_emb_0.npy   float16 [N, D]
    metadata/metadata_0.parquet                      row i is vector i: caption, url, pair_id, similarity, head scores

These files cannot hold nulls, so a pair that lacks a vector which other pairs have is left out of all of them. One part
is in memory at a time. formats/vector_files.py reads the same layout.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.errors import ConfigError
from react_ray.kinds import EMBEDDINGS, PAIRS, EmbeddingsFacts, PairsFacts
from react_ray.progress import Progress
from react_ray.storage import Storage, open_empty
from react_ray.vectors import from_vectors

FOLDERS = {"image": "img_emb", "text": "text_emb"}
LAYOUT = "clip-retrieval"


def export_vectors(uri: str, out: str, rows_per_shard: int = 1_000_000) -> str:
    """Writes all shards and returns a summary. Raises ConfigError for an `out` that is not empty."""
    if rows_per_shard < 1:
        raise ConfigError(f"export: {rows_per_shard} rows per shard; give at least 1")
    embeddings = open_artifact(uri, EMBEDDINGS)
    pairs = open_artifact(f"{embeddings.uri.rpartition('/')[0]}/pairs", PAIRS)
    storage = open_empty(out)
    return _write(embeddings, pairs, storage, rows_per_shard)


def _write(
    embeddings: Artifact[EmbeddingsFacts], pairs: Artifact[PairsFacts], storage: Storage, rows_per_shard: int
) -> str:
    keys = embedded_keys(embeddings)
    most = -(-embeddings.rows // rows_per_shard)
    shard: _Shard | None = None
    num_rows = num_shards = 0
    with ExitStack() as opened, Progress("export", embeddings.num_parts, "pairs") as progress:
        for part in range(embeddings.num_parts):
            table = _whole_rows(embeddings.read(part), pairs, part, keys)
            left = table
            while left.num_rows:
                if shard is None:
                    shard = opened.enter_context(
                        _Shard(storage, str(num_shards).zfill(len(str(most))), keys, table.schema)
                    )
                    num_shards += 1
                taken = left.slice(0, rows_per_shard - shard.num_rows)
                shard.write(taken)
                left = left.slice(taken.num_rows)
                num_rows += taken.num_rows
                if shard.num_rows == rows_per_shard:
                    opened.close()
                    shard = None
            progress.advance(rows=embeddings.receipt(part).rows, ok=table.num_rows)
    left_out = embeddings.rows - num_rows
    return f"{storage.uri}: {num_rows} pairs in {num_shards} shards of {LAYOUT}, {left_out} without a vector left out"


def embedded_keys(embeddings: Artifact[EmbeddingsFacts]) -> list[str]:
    """Returns the sides that were embedded; a side without any vector would otherwise leave every row out."""
    config = embeddings.manifest.config
    if "published" not in config:
        return [key for key, side in (("image", "images"), ("text", "captions")) if config.get(side, True)]
    found = [key for key in FOLDERS if any(table[key].null_count < len(table) for table in embeddings.tables([key]))]
    return found or list(FOLDERS)


def _whole_rows(vectors: pa.Table, pairs: Artifact[PairsFacts], part: int, keys: list[str]) -> pa.Table:
    """Returns the rows of a part that have all vectors, joined with the columns of `pairs`, without the status."""
    described = pairs.read(part)
    assert described["pair_id"].equals(vectors["pair_id"]), "rows are not where their ids say"
    whole = pc.is_valid(vectors[keys[0]])
    for key in keys[1:]:
        whole = pc.and_(whole, pc.is_valid(vectors[key]))
    for name in described.column_names:
        if name not in vectors.column_names:
            vectors = vectors.append_column(described.schema.field(name), described[name])
    unused = [key for key in FOLDERS if key not in keys]
    return vectors.filter(whole).drop_columns(["status", *unused])


class _Shard:
    """Writes the files of one shard, which appear atomically when it is closed."""

    def __init__(self, storage: Storage, number: str, keys: list[str], columns: pa.Schema) -> None:
        self.storage, self.number, self.keys, self.num_rows = storage, number, keys, 0
        self.columns = pa.schema([field for field in columns if field.name not in keys])
        self.dims = {key: schema.dim_of(columns.field(key).type) for key in keys}

    def __enter__(self) -> _Shard:
        self.opened = ExitStack()
        self.arrays: dict[str, BinaryIO] = {}
        for key in self.keys:
            name = f"{FOLDERS[key]}/{FOLDERS[key]}_{self.number}.npy"
            self.arrays[key] = self.opened.enter_context(self.storage.writing(name))
            self._header(key)
        file = self.opened.enter_context(self.storage.writing(f"metadata/metadata_{self.number}.parquet"))
        self.metadata = self.opened.enter_context(pq.ParquetWriter(file, self.columns))
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            for key in self.keys:
                self._header(key)
        self.opened.__exit__(*error)  # type: ignore[arg-type]

    def write(self, table: pa.Table) -> None:
        for key in self.keys:
            self.arrays[key].write(from_vectors(table[key]).tobytes())
        self.metadata.write_table(table.select(self.columns.names))
        self.num_rows += table.num_rows

    def _header(self, key: str) -> None:
        """Writes the header: first as a placeholder, then again; NumPy pads it so that any number of rows fits."""
        self.arrays[key].seek(0)
        shape = {"descr": "<f2", "fortran_order": False, "shape": (self.num_rows, self.dims[key])}
        np.lib.format.write_array_header_1_0(self.arrays[key], shape)
