"""Deleted pairs: ids that no search returns any more, from the moment that they are written.

A deletion is one small file beside the artifacts of the database; nothing is rebuilt. Shards leave these pairs out while
they search, so that k hits are k hits. Next: list_shard.py.
"""

from __future__ import annotations

import io

import numpy as np

from react_ray.errors import ConfigError
from react_ray.index.ordering import distinct
from react_ray.section import digest
from react_ray.storage import join, open_storage, read_bytes

FOLDER = "deleted"


def delete_pairs(database: str, pair_ids: np.ndarray) -> int:
    """Add to the deleted pairs of a database (its URI); returns how many there are now. The same ids again change nothing."""
    ids = distinct(np.asarray(pair_ids, dtype=np.int64))
    if len(ids):
        sink = io.BytesIO()
        np.save(sink, ids)
        open_storage(join(database, FOLDER)).write(f"{digest(ids.tolist())}.npy", sink.getvalue())
    return len(deleted_pairs(database))


def read_ids(uri: str) -> np.ndarray:
    """int64 of a text file, one pair_id a line; ConfigError names the first line that is none."""
    ids = []
    for number, line in enumerate(read_bytes(uri).decode("utf-8", "replace").split("\n"), 1):
        if line.strip():
            if not line.strip().isdecimal() or int(line) >= 2**63:
                raise ConfigError(
                    f"{uri}: line {number} is {line.strip()[:40]!r}, no pair_id; write one whole number a line"
                )
            ids.append(int(line))
    return np.array(ids, dtype=np.int64)


def deleted_pairs(database: str) -> np.ndarray:
    """int64, sorted, each once; empty if nothing was ever deleted."""
    storage = open_storage(join(database, FOLDER))
    files = [
        np.load(io.BytesIO(storage.read(name)), allow_pickle=False) for name in storage.list() if name.endswith(".npy")
    ]
    return distinct(np.concatenate([np.empty(0, np.int64), *files]))
