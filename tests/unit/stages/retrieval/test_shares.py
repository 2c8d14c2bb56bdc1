"""Shares: every shard has one actor, evenly, and what needs not move stays."""

from __future__ import annotations

import random

import pytest

from react_ray.stages.retrieval.shares import Shares, spread

COUNTS = {"image": 7, "text": 3}


def of(shares: Shares[str]) -> dict[str, set[int]]:
    return {actor: set(share) for actor, share in shares}


@pytest.mark.parametrize("seed", range(5))
def test_actors_that_come_and_go_have_every_shard_once_and_equally_many(seed: int) -> None:
    chance, actors, held = random.Random(seed), ["first"], dict[str, Shares[str]]()
    for step in range(50):
        if len(actors) > 1 and chance.random() < 0.5:
            actors.remove(chance.choice(actors))
        else:
            actors.append(f"actor {step}")
        before, held = held, spread(COUNTS, actors, held)
        for key, count in COUNTS.items():
            assert sorted(shard for _, share in held[key] for shard in share) == list(range(count))
            sizes = [len(of(held[key]).get(actor, ())) for actor in actors]
            assert max(sizes) - min(sizes) <= 1
            had, has = of(before.get(key, [])), of(held[key])
            moved = sum(len(share - has[actor]) for actor, share in had.items() if actor in has)
            newcomers = [actor for actor in actors if actor not in had]
            assert moved <= sum(len(has.get(actor, ())) for actor in newcomers)


def test_keys_of_one_shard_each_lie_on_different_actors() -> None:
    assert spread({"image": 1, "text": 1}, ["a", "b"], {}) == {"image": [("a", (0,))], "text": [("b", (0,))]}
