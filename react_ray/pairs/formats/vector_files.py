"""Reads published vectors and their metadata: clip-retrieval's and LAION's .npy, DataComp's .npz, with Parquet files.

    img_emb/img_emb_0.npy  text_emb/text_emb_0.npy  metadata/metadata_0.parquet   in any folders; any may be missing
    00ab.npz (b32_img, b32_txt, l14_img, l14_txt)   00ab.parquet

Row i of all files of a shard is one pair, so a shard whose files have different numbers of rows is refused. The columns
are those of the metadata, and `image_vector` and `text_vector`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.pairs.formats.arrays import ArrayFile, open_npy, open_npz
from react_ray.pairs.formats.chunk import Chunk
from react_ray.pairs.formats.seen import Seen
from react_ray.parquet import read_rows
from react_ray.storage import open_parquet

IMAGE_VECTOR, TEXT_VECTOR = "image_vector", "text_vector"
NPY_NAME = re.compile(r"(?:.*/)?(img_emb|text_emb|metadata)_?(\d+)\.(?:npy|parquet)", re.IGNORECASE)


@dataclass(frozen=True)
class Shard:
    """URIs of the files of one shard, "" for a missing file. prefix: of the array names in an .npz; None for .npy."""

    image: str = ""
    text: str = ""
    metadata: str = ""
    prefix: str | None = None

    def arrays(self, seen: Seen) -> dict[str, ArrayFile]:
        if self.prefix is None:
            uris = {IMAGE_VECTOR: self.image, TEXT_VECTOR: self.text}
            return {name: open_npy(uri) for name, uri in uris.items() if uri}
        return _of_npz(self.image, self.prefix, seen)


@dataclass(frozen=True)
class VectorFiles:
    shards: dict[str, Shard]  # by the URI that names each shard, in order
    every_column: bool = True

    @property
    def beside(self) -> set[str]:
        """URIs of the Parquet files, and of the texts' vectors, which lie beside those that name the shards."""
        return {uri for shard in self.shards.values() for uri in (shard.image, shard.text, shard.metadata) if uri}

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        shard = self.shards[uri]
        arrays = shard.arrays(seen)
        fields = [
            pa.field(name, pa.list_(pa.from_numpy_dtype(array.dtype), array.dim)) for name, array in arrays.items()
        ]
        counts = {f"{array.uri} {array.member}".strip(): array.num_rows for array in arrays.values()}
        if shard.metadata:
            metadata = open_parquet(shard.metadata)
            counts[shard.metadata] = metadata.metadata.num_rows
            fields = [field for field in metadata.schema_arrow if field.name not in arrays] + fields
        _check_counts(counts)
        num_rows = next(iter(counts.values()))
        row_bytes = sum(array.dim * np.dtype(array.dtype).itemsize for array in arrays.values())
        return pa.schema(fields), _cut(uri, num_rows, row_start, rows_per_part, row_bytes)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        shard, first, num_rows = self.shards[uri], chunks[0].start, sum(chunk.num_rows for chunk in chunks)
        arrays = shard.arrays(Seen())
        table = pa.table({name: _column(array.read(first, num_rows)) for name, array in arrays.items()})
        if shard.metadata:
            names = [name for name in columns.names if name not in arrays]
            rows = read_rows(open_parquet(shard.metadata), first, num_rows, names)
            for field, column in zip(rows.column_names, rows.columns, strict=True):
                table = table.append_column(field, column)
        return table


def clip_retrieval(uris: list[str]) -> tuple[VectorFiles, list[str]]:
    """Returns the format, and the URIs that name the shards, in the order of their numbers."""
    found: dict[str, dict[int, str]] = {"img_emb": {}, "text_emb": {}, "metadata": {}}
    for uri in uris:
        if match := NPY_NAME.fullmatch(uri):
            kind, number = match[1].lower(), int(match[2])
            if number in found[kind]:
                raise ConfigError(
                    f"ingest.source: {found[kind][number]} and {uri} have one number; name the folder of one set"
                )
            found[kind][number] = uri
    if not (found["img_emb"] or found["text_emb"]):
        raise ConfigError(
            f"ingest.source: {uris[0]} is not named img_emb_0.npy or text_emb_0.npy as clip-retrieval does; rename it"
        )
    present = {kind: files for kind, files in found.items() if files}
    numbers = set().union(*present.values())
    for kind, files in present.items():
        if lacking := sorted(numbers - set(files)):
            others = " and ".join(sorted(set(present) - {kind}))
            raise ConfigError(
                f"ingest.source: {kind} lacks number {lacking[0]} that {others} have; fetch it, or take them away"
            )
    shards = [Shard(*(found[kind].get(number, "") for kind in found)) for number in sorted(numbers)]
    named = {shard.image or shard.text: shard for shard in shards}
    return VectorFiles(named), list(named)


def datacomp(uris: list[str], tables: list[str], prefix: str) -> tuple[VectorFiles, list[str]]:
    """Returns the format, and the URIs of the shards. prefix: b32 or l14; "" = the only one that the files have."""
    metadata = {uri.rpartition(".")[0]: uri for uri in tables}
    missing = [uri for uri in uris if tables and uri.rpartition(".")[0] not in metadata]
    if missing:
        raise ConfigError(
            f"ingest.source: {missing[0]} has no .parquet of its name beside it; fetch it, or take the .npz away"
        )
    named = {uri: Shard(uri, "", metadata.get(uri.rpartition(".")[0], ""), prefix) for uri in uris}
    return VectorFiles(named), list(named)


def _of_npz(uri: str, prefix: str, seen: Seen) -> dict[str, ArrayFile]:
    arrays, others = open_npz(uri)
    prefixes = sorted({name.rpartition("_")[0] for name in (*arrays, *others) if name.endswith(("_img", "_txt"))})
    chosen = prefix or (prefixes[0] if len(prefixes) == 1 else "")
    if chosen not in prefixes:
        raise ConfigError(
            f"ingest.vector_prefix={prefix!r}: {uri} has "
            f"{', '.join(prefixes) or 'no array named *_img or *_txt'}; name one of them"
        )
    names = {IMAGE_VECTOR: f"{chosen}_img", TEXT_VECTOR: f"{chosen}_txt"}
    for name in others:
        if name in names.values():
            raise others[name]
    for name in (*arrays, *others):
        if name not in names.values():
            seen.pass_over("arrays of .npz files that are not read", f"{uri.rpartition('/')[2]}: {name}")
    return {column: arrays[name] for column, name in names.items() if name in arrays}


def _check_counts(counts: dict[str, int]) -> None:
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {num_rows} rows" for name, num_rows in counts.items())
        raise ConfigError(
            f"ingest.source: {listed}; row i of each must be one pair: fetch these files again, or take the shard away"
        )


def _cut(uri: str, num_rows: int, row_start: int, rows_per_part: int, row_bytes: int) -> Iterator[Chunk]:
    start = 0
    while start < num_rows:
        rows = min(num_rows - start, rows_per_part - (row_start + start) % rows_per_part)
        yield Chunk(uri, row_start + start, rows, rows * row_bytes, start)
        start += rows


def _column(vector_ND: np.ndarray) -> pa.FixedSizeListArray:
    native = vector_ND.astype(vector_ND.dtype.newbyteorder("="), copy=False)
    return pa.FixedSizeListArray.from_arrays(pa.array(native.reshape(-1)), vector_ND.shape[1])
