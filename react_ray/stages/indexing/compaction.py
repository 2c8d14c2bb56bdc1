"""Compaction replaces an index and its deltas by one index; whatever verb comes after a kill completes it.

`mark` writes what the first plan of the index decided, `clear` deletes the old index and keeps those decisions for the
next build, and `done` forgets them once that build is sealed.
"""

from __future__ import annotations

import json
from typing import Any

from react_ray.index.shards import DELTAS
from react_ray.lease import take
from react_ray.manifest import BUILDING, MANIFEST
from react_ray.metadata import read_json
from react_ray.storage import Storage

COMPACTING, SETTLED = "compacting.json", "settled.json"  # the decisions, before and after the old shards are deleted


def mark(storage: Storage, settled: dict[str, Any]) -> None:
    """From now on the index in this storage is to be replaced."""
    take(storage.uri)
    storage.write(COMPACTING, json.dumps(settled).encode())


def clear(storage: Storage) -> None:
    """Deletes an index that is to be replaced; its receipts would otherwise pass for those of the new index."""
    if not storage.exists(COMPACTING):
        return
    take(storage.uri)
    for path in sorted(storage.list(), key=lambda path: path != MANIFEST):  # without a manifest it is no index any more
        if path.startswith(("part-", f"{DELTAS}/")) or path in (MANIFEST, BUILDING):
            storage.delete(path)
    storage.write(SETTLED, storage.read(COMPACTING))
    storage.delete(COMPACTING)


def settled(storage: Storage) -> dict[str, Any]:
    """Returns the decisions that a build must keep; {} if it is no compaction."""
    remedy = "delete it; the index is planned anew"
    return read_json(storage, SETTLED, dict[str, Any], remedy) if storage.exists(SETTLED) else {}


def done(storage: Storage) -> None:
    storage.delete(SETTLED)
