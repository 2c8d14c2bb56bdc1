"""Deletes pairs: no search returns a deleted pair from the moment at which its id is written.

A deletion is one small file beside the artifacts of the database, and nothing is rebuilt. Shards skip deleted pairs
while they search, so a search for k hits still returns k.
"""

from __future__ import annotations

import io

import numpy as np

from react_ray.errors import ArtifactCorrupt, ConfigError, StorageError
from react_ray.index.ordering import distinct
from react_ray.metadata import shown
from react_ray.section import digest
from react_ray.storage import Storage, join, open_storage, read_bytes

FOLDER = "deleted"
MAX_DIGITS = 40  # of a pair_id with zeros in front; Python refuses to read 4,301


def delete_pairs(database: str, pair_ids: np.ndarray) -> int:
    """Adds to the deleted pairs of a database (its URI); returns how many there are now. Ids that are already deleted
    change nothing."""
    ids = distinct(np.asarray(pair_ids, dtype=np.int64))
    if len(ids):
        sink = io.BytesIO()
        np.save(sink, ids)
        open_storage(join(database, FOLDER)).write(f"{digest(ids.tolist())}.npy", sink.getvalue())
    return len(deleted_pairs(database))


def read_ids(uri: str) -> np.ndarray:
    """Reads int64 pair_ids from a text file, one per line; ConfigError names the first line that is not a pair_id."""
    ids = []
    for number, line in enumerate(read_bytes(uri).decode("utf-8", "replace").split("\n"), 1):
        if line.strip():
            word = line.strip()
            if not word.isdecimal() or len(word) > MAX_DIGITS or int(word) >= 2**63:
                raise ConfigError(
                    f"{uri}: line {number} is {shown(word, 40)}, no pair_id; write one whole number a line"
                )
            ids.append(int(word))
    return np.array(ids, dtype=np.int64)


def deleted_pairs(database: str) -> np.ndarray:
    """Returns int64 pair_ids, sorted, each once; empty if nothing was ever deleted."""
    storage = open_storage(join(database, FOLDER))
    files = [_load(storage, name) for name in storage.list() if name.endswith(".npy")]
    return distinct(np.concatenate([np.empty(0, np.int64), *files]))


def _load(storage: Storage, name: str) -> np.ndarray:
    """Returns the ids of one deletion, whose name is the digest of its ids: a damaged file would bring pairs back."""
    try:
        ids = np.load(io.BytesIO(storage.read(name)), allow_pickle=False)
        whole = ids.dtype == np.int64 and f"{digest(ids.tolist())}.npy" == name
    except StorageError:
        raise
    except Exception:  # numpy raises anything for a damaged header, such as a TokenError
        whole = False
    if not whole:
        raise ArtifactCorrupt(f"{storage.uri}/{name} is damaged; delete it, and delete its pairs again")
    return ids
