"""How actors share the shards of each key: evenly, and an actor that has a shard keeps it if it can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

A = TypeVar("A")

Share = tuple[int, ...]  # numbers of shards, ascending
Shares = list[tuple[A, Share]]  # of one key: who answers, and for what


def spread(counts: Mapping[str, int], actors: Sequence[A], held: Mapping[str, Shares[A]]) -> dict[str, Shares[A]]:
    """counts: how many shards each key has; held: who had which before. Actors without a shard of a key are left out.

    Each key begins with another actor, so that together, too, one actor has at most a few more than another.
    """
    found = {}
    for turn, (key, count) in enumerate(counts.items()):
        first = turn % len(actors)
        before = [one for one in held.get(key, []) if one[0] in actors]
        found[key] = _of_key(count, [*actors[first:], *actors[:first]], before)
    return found


def _of_key(count: int, actors: Sequence[A], held: Shares[A]) -> Shares[A]:
    shares: dict[A, list[int]] = {actor: [] for actor in actors} | {actor: list(share) for actor, share in held}
    kept = {shard for share in shares.values() for shard in share}
    for shard in range(count):
        if shard not in kept:
            min(shares.values(), key=len).append(shard)
    while len(most := max(shares.values(), key=len)) - len(fewest := min(shares.values(), key=len)) > 1:
        fewest.append(most.pop())
    return [(actor, tuple(sorted(shards))) for actor, shards in shares.items() if shards]
