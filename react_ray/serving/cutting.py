"""Cuts the shards of an index into groups that each fit into the memory of one process.

Every process computes the cut by itself, so it depends on the index and the number of groups alone.
"""

from __future__ import annotations

import math

from react_ray.artifact import Artifact
from react_ray.index.config import Key
from react_ray.index.list_shard import FILES
from react_ray.index.shards import ShardPlace, shard_places
from react_ray.kinds import IndexFacts

MAPPED = FILES[1]  # cold codes, which are read from disk where a search needs them


def memory_bytes(place: ShardPlace) -> int:
    """What an open shard takes in memory, about: its files, without those that are mapped."""
    files = place.index.receipt(place.part).files
    return sum(file["bytes"] for name, file in files.items() if not name.endswith((MAPPED, ".npy", ".arrow")))


def all_places(index: Artifact[IndexFacts] | None) -> list[ShardPlace]:
    """The shards of all keys, of the base and of its deltas."""
    return [] if index is None else [place for key in index.facts.keys for place in shard_places(index, key)]


def num_groups(index: Artifact[IndexFacts] | None, memory_gb: float) -> int:
    """At least 1, and no more than there are shards."""
    places = all_places(index)
    total = sum(map(memory_bytes, places))
    return max(1, min(math.ceil(total / (memory_gb * 1e9)), len(places)))


def cut(index: Artifact[IndexFacts] | None, count: int) -> list[dict[Key, list[ShardPlace]]]:
    """Returns the shards of each group by key: the largest shard first, always to the group that has least."""
    found: list[dict[Key, list[ShardPlace]]] = [{} for _ in range(count)]
    filled = [0] * count
    sized = [(memory_bytes(place), place) for place in all_places(index)]
    for size, place in sorted(sized, key=lambda one: (-one[0], one[1].index.uri, one[1].part)):
        group = filled.index(min(filled))
        key: Key = "image" if place.key == "image" else "text"
        found[group].setdefault(key, []).append(place)
        filled[group] += size
    return found
