"""What is kept of the hits of classes: enough to choose as from all hits, and no more than was searched for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from react_ray import schema
from react_ray.selection.claims import Claims
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.hit_columns import AskedClasses
from react_ray.selection.kept_claims import KeptClaims
from react_ray.selection.select import choose, chosen_pairs, select, with_matches

NUM_CLASSES, NUM_PAIRS = 5, 60
KEYS = ("image", "text")
QUERIES = pa.table(
    {
        "query_id": pa.array(range(NUM_CLASSES), pa.int32()),
        "class_id": pa.array(range(NUM_CLASSES), pa.int32()),
        "task": ["birds"] * NUM_CLASSES,
        "class_name": ["owl", "heron", "stork", "owl", "crane"],  # the fourth counts as the first
        "prompt": [f"prompt {number}" for number in range(NUM_CLASSES)],
    }
)
CLASS_OF = [0, 1, 2, 0, 4]
SCALES = {("text", "image"): (0.1, 0.3), ("text", "text"): (0.4, 0.2)}


def made_scores(seed: int, gap: float, levels: int) -> np.ndarray:
    """float32 [keys, classes, pairs]: captions lie `gap` higher; few levels make many ties."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, (2, NUM_CLASSES, NUM_PAIRS)) / levels
    return (scores + gap * np.arange(2)[:, None, None]).astype(np.float32)


def blocks(scores: np.ndarray, depth: int, asked: np.ndarray) -> Iterator[pa.Table]:
    """The `depth` best pairs of each class and key, as a search by classes stores them; two classes in a block."""
    groups = sorted({CLASS_OF[query] for query in np.flatnonzero(asked).tolist()})
    for first in range(0, len(groups), 2):
        rows = []
        for key, name in enumerate(KEYS):
            for group in groups[first : first + 2]:
                of_class = [query for query in range(NUM_CLASSES) if CLASS_OF[query] == group]
                best = scores[key][of_class].max(axis=0)
                for rank, pair in enumerate(np.lexsort((np.arange(NUM_PAIRS), -best))[:depth].tolist()):
                    query = of_class[int(scores[key][of_class, pair].argmax())]
                    rows.append((query, pair, float(best[pair]), rank, name))
        yield pa.Table.from_pylist([dict(zip(schema.HITS.names, row, strict=True)) for row in rows], schema.HITS)


def chosen_in_rounds(scores: np.ndarray, config: RetrieveConfig, depth: int) -> pa.Table:
    """Returns what is chosen once no class is short."""
    kept, again = KeptClaims(QUERIES, config, SCALES), np.ones(NUM_CLASSES, bool)
    while again.any():
        kept.add(blocks(scores, depth, again), again, depth)
        chosen = choose(kept.claims, config)
        again = kept.short(chosen) & (depth < NUM_PAIRS)
        depth = min(2 * depth, NUM_PAIRS)
    return chosen_pairs(chosen, config)


@pytest.mark.parametrize("gap", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"min_score": 0.6},
        {"min_score_of": {"text": 0.8}},
        {"keys": ["text"]},
        {"pairs_per_class": 40},
    ],
)
def test_classes_choose_of_the_kept_hits_as_of_all(gap: float, wanted: dict) -> None:
    for seed in range(12):
        scores = made_scores(seed, gap, levels=[4, 50, 10**6][seed % 3])
        config = RetrieveConfig(**({"pairs_per_class": 7, "exclusive": False} | wanted))
        every = list(blocks(scores, NUM_PAIRS, np.ones(NUM_CLASSES, bool)))
        expected = select(pa.concat_tables(every), QUERIES, config)
        chosen = chosen_in_rounds(scores, config, depth=5)
        assert chosen.equals(expected.drop_columns(["matches"]))
        assert with_matches(chosen, every, AskedClasses(QUERIES), config).to_pylist() == expected.to_pylist()


@pytest.mark.parametrize("gap", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("image_share", [0.1, 0.4, 0.9])
def test_keys_with_shares_find_the_same_pairs_as_of_all_hits(gap: float, image_share: float) -> None:
    """The scores are those of the hits that were found, of which all hits have more."""
    for seed in range(6):
        scores = made_scores(seed, gap, levels=[4, 50, 10**6][seed % 3])
        config = RetrieveConfig(pairs_per_class=(7, 25)[seed % 2], exclusive=False, image_share=image_share)
        every = list(blocks(scores, NUM_PAIRS, np.ones(NUM_CLASSES, bool)))
        expected = select(pa.concat_tables(every), QUERIES, config)
        assert chosen_in_rounds(scores, config, depth=5)["pair_id"].equals(expected["pair_id"])


def by_class(claims: Claims) -> dict[int, set[int]]:
    return {number: set(claims.pair_id[claims.class_id == number].tolist()) for number in set(CLASS_OF)}


@pytest.mark.parametrize("fusion", ["score", "z-score", "rank"])
def test_the_strongest_claims_of_each_class_over_all_keys_are_kept(fusion: str) -> None:
    scores, depth, everyone = made_scores(0, 0.3, 10**6), 9, np.ones(NUM_CLASSES, bool)
    config = RetrieveConfig(pairs_per_class=6, exclusive=False, fusion=fusion)
    kept = KeptClaims(QUERIES, config, SCALES)
    kept.add(blocks(scores, depth, everyone), everyone, depth)
    assert np.array_equal(kept.claims.pair_id, np.sort(kept.claims.pair_id))
    for number in set(CLASS_OF):
        rows = [row for row in every_row(scores, depth) if CLASS_OF[row["query_id"]] == number]
        strength: dict[int, float] = {}
        for row in rows:
            mean, spread = SCALES["text", row["key"]]
            found = {"score": row["score"], "z-score": (row["score"] - mean) / spread}.get(fusion, 0.0)
            if fusion == "rank":
                found = strength.get(row["pair_id"], 0) + 2**40 // (60 + row["rank"]) / 2**40
            strength[row["pair_id"]] = max(strength.get(row["pair_id"], -9.0), found)
        best = sorted(strength, key=lambda pair: -strength[pair])[:depth]
        mine = kept.claims.take(np.flatnonzero(kept.claims.class_id == number))
        assert set(mine.pair_id.tolist()) == set(best)
        np.testing.assert_allclose(mine.strength, [strength[pair] for pair in sorted(best)], rtol=1e-6)


def every_row(scores: np.ndarray, depth: int) -> list[dict]:
    return pa.concat_tables(blocks(scores, depth, np.ones(NUM_CLASSES, bool))).to_pylist()


def test_hits_of_a_class_that_is_asked_again_replace_those_before() -> None:
    scores, config = made_scores(1, 0.0, 10**6), RetrieveConfig(pairs_per_class=4)
    kept, everyone = KeptClaims(QUERIES, config), np.ones(NUM_CLASSES, bool)
    kept.add(blocks(scores, 6, everyone), everyone, 6)
    before = by_class(kept.claims)
    again = np.array([True, False, False, True, False])
    kept.add(blocks(scores, 12, again), again, 12)
    after = by_class(kept.claims)
    assert len(before[0]) == 6 and len(after[0]) == 12 and before[0] < after[0]
    assert {number: pairs for number, pairs in after.items() if number} == {n: p for n, p in before.items() if n}


def test_a_query_that_is_asked_again_alone_leaves_the_hits_of_the_others_of_its_class() -> None:
    scores, config = made_scores(2, 0.0, 10**6), RetrieveConfig(pairs_per_class=30, k=5, max_k=20)
    kept, everyone = KeptClaims(QUERIES, config), np.ones(NUM_CLASSES, bool)
    first = pa.concat_tables(blocks(scores, 5, everyone))
    kept.add([first], everyone, 5)
    answered = set(first.filter(pa.compute.equal(first["rank"], 4))["query_id"].to_pylist())
    chosen = choose(kept.claims, config)
    assert kept.short(chosen).tolist() == [query in answered for query in range(NUM_CLASSES)]
    again = np.array([True, *[False] * (NUM_CLASSES - 1)])
    deeper = pa.concat_tables(blocks(scores, 20, again))
    deeper = deeper.filter(pa.compute.equal(deeper["query_id"], 0))
    kept.add([deeper], again, 20)
    left = first.filter(pa.compute.not_equal(first["query_id"], 0))
    of_all = select(pa.concat_tables([left, deeper]), QUERIES, config)
    assert chosen_pairs(choose(kept.claims, config), config).equals(of_all.drop_columns(["matches"]))
    assert not KeptClaims(QUERIES, RetrieveConfig()).short(chosen).any(), "without pairs_per_class no class is short"
