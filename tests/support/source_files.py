"""Writes the files of a source, on disk or in another storage, and reads all pairs of a source."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pyarrow as pa

from react_ray.pairs.source import IngestConfig, open_source, to_pairs
from react_ray.storage import Storage, join


def write(folder: Path | Storage, name: str, data: bytes) -> str:
    data = gzip.compress(data) if name.endswith(".gz") else data
    if isinstance(folder, Storage):
        folder.write(name, data)
        return join(folder.uri, name)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return str(folder / name)


def read_all(config: IngestConfig) -> pa.Table:
    source = pickle.loads(pickle.dumps(open_source(config)))
    tables = [to_pairs(source.read(part.part), part.part, config) for part in source.parts]
    assert [len(table) for table in tables] == [part.num_rows for part in source.parts]
    assert not source.has_images
    return pa.concat_tables(tables)
