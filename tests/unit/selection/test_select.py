"""Which pairs a class gets: against a plain Python selection, and the promises of each setting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from react_ray import schema
from react_ray.errors import RetrievalError
from react_ray.selection.claims import claims_of
from react_ray.selection.hit_columns import AskedClasses, HitColumns
from react_ray.selection.image_agreement import ImageAgreement
from react_ray.selection.random_pairs import select_random
from react_ray.selection.report import set_report
from react_ray.selection.screen import Screen
from react_ray.selection.select import MATCHED, RetrieveConfig, coverage, select


def make_queries(num_classes: int, num_prompts: int) -> pa.Table:
    rows = [
        (c * num_prompts + p, c, f"class {c}", f"prompt {p} of {c}")
        for c in range(num_classes)
        for p in range(num_prompts)
    ]
    query_id, class_id, class_name, prompt = zip(*rows, strict=True)
    return pa.table(
        {
            "query_id": pa.array(query_id, pa.int32()),
            "class_id": pa.array(class_id, pa.int32()),
            "class_name": class_name,
            "prompt": prompt,
        }
    )


def make_hits(rows: list[tuple[int, int, float, int, str]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.HITS.names, row, strict=True)) for row in rows], schema=schema.HITS)


def random_hits(num_queries: int, num_pairs: int, k: int, seed: int) -> pa.Table:
    generator = np.random.default_rng(seed)
    tables = []
    for key in ("image", "text"):
        pair = np.stack([generator.choice(num_pairs, k, replace=False) for _ in range(num_queries)]).astype(np.int64)
        score = -np.sort(-generator.integers(0, 40, (num_queries, k)) / 40, axis=1)
        tables.append(
            pa.table(
                {
                    "query_id": np.repeat(np.arange(num_queries), k),
                    "pair_id": pair.ravel() << 20,
                    "score": score.ravel(),
                    "rank": np.tile(np.arange(k), num_queries),
                    "key": [key] * (num_queries * k),
                }
            ).cast(schema.HITS)
        )
    return pa.concat_tables(tables)


def naive(
    hits: pa.Table, queries: pa.Table, config: RetrieveConfig, agree: Callable[[int, int], bool] = lambda *_: True
) -> list[dict]:
    asked = {row["query_id"]: row for row in queries.to_pylist()}
    matches, strength, score, of_key = defaultdict(list), defaultdict(int), {}, defaultdict(dict)
    for hit in hits.to_pylist():
        least = max(config.min_score, config.min_score_of.get(hit["key"], -1))
        if hit["key"] not in config.keys or hit["score"] < np.float32(least):
            continue
        query = asked[hit["query_id"]]
        cell = (hit["pair_id"], query["class_id"])
        matches[hit["pair_id"]].append((-hit["score"], hit["query_id"], hit["key"], query))
        score[cell] = max(score.get(cell, -2.0), hit["score"])
        strength[cell] += 2**40 // (60 + hit["rank"])
        of_key[query["class_id"], hit["key"]][hit["pair_id"]] = max(
            of_key[query["class_id"], hit["key"]].get(hit["pair_id"], -2.0), hit["score"]
        )
    if config.fusion == "score":
        strength = score
    by_pair = defaultdict(list)
    for pair, label in score:
        by_pair[pair].append((-strength[pair, label], -score[pair, label], label))
    by_class = defaultdict(list)
    for pair, claims in by_pair.items():
        for s, raw, label in sorted(claims)[: 1 if config.exclusive else None]:
            if agree(pair, label):
                by_class[label].append((s, raw, pair))
    kept = defaultdict(list)
    for label, claims in by_class.items():
        turn = {}
        for key, share in (("image", config.image_share), ("text", 1 - config.image_share)):
            mine = [(-of_key[label, key][pair], pair) for _, _, pair in claims if pair in of_key[label, key]]
            for place, (_, pair) in enumerate(sorted(mine) if config.image_share else (), 1):
                turn[pair] = min(turn.get(pair, np.inf), place / share)
        for s, raw, pair in sorted(claims, key=lambda c: (turn.get(c[2], 0), *c))[: config.pairs_per_class or None]:
            kept[pair].append((s, raw, label))
    return [
        {
            "pair_id": pair,
            "class_id": min(kept[pair])[2],
            "score": -min(kept[pair])[1],
            "matches": [
                {"class_id": q["class_id"], "prompt": q["prompt"], "score": -s, "key": key}
                for s, _, key, q in sorted(matches[pair], key=lambda m: m[:3])
            ],
        }
        for pair in sorted(kept)
    ]


@pytest.mark.parametrize("fusion", ["score", "rank"])
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"pairs_per_class": 3},
        {"min_score": 0.5, "pairs_per_class": 5},
        {"keys": ["text"]},
        {"min_score": 0.2, "min_score_of": {"image": 0.7}},
        {"min_score_of": {"image": 0.3, "text": 0.6}, "image_share": 0.4, "pairs_per_class": 5},
        {"image_share": 0.99, "pairs_per_class": 99},
    ],
)
def test_selection_equals_a_plain_one_and_ignores_the_order_of_hits(fusion: str, exclusive: bool, limits: dict) -> None:
    queries, hits = make_queries(6, 3), random_hits(18, 60, 12, seed=0)
    config = RetrieveConfig(fusion=fusion, exclusive=exclusive, **limits)
    chosen = select(hits, queries, config)
    assert chosen.schema.equals(MATCHED)
    assert chosen.to_pylist() == naive(hits, queries, config)
    generator = np.random.default_rng(1)
    shuffled = hits.take(pa.array(generator.permutation(hits.num_rows)))
    turned = queries.take(pa.array(generator.permutation(queries.num_rows)))
    assert select(shuffled, turned, config).equals(chosen)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("limits", [{}, {"pairs_per_class": 4}, {"pairs_per_class": 4, "image_share": 0.5}])
def test_a_class_takes_the_next_pair_in_place_of_one_whose_image_does_not_agree(exclusive: bool, limits: dict) -> None:
    queries, config = make_queries(6, 3), RetrieveConfig(exclusive=exclusive, **limits)

    def score(pair: np.ndarray, label: np.ndarray) -> np.ndarray:
        return np.float32((pair // 2**20 + label) % 3)

    for seed in range(5):
        hits, agreement = random_hits(18, 60, 12, seed), ImageAgreement(1.0, score)
        chosen = select(hits, queries, config, agreement=agreement)
        assert chosen.to_pylist() == naive(hits, queries, config, lambda pair, label: score(pair, label) >= 1)
        again = ImageAgreement(1.0, lambda *claims: pytest.fail("these claims were compared before"))
        again._claims, again._scores = agreement._claims, agreement._scores
        assert select(hits, queries, config, agreement=again).equals(chosen) and again.dropped == agreement.dropped > 0


def test_an_exclusive_pair_counts_for_its_best_class_only() -> None:
    hits = make_hits([(0, 7, 0.9, 0, "text"), (1, 7, 0.8, 0, "text"), (1, 8, 0.7, 1, "text")])
    queries = make_queries(2, 1)
    chosen = select(hits, queries, RetrieveConfig(exclusive=True))
    assert chosen.select(["pair_id", "class_id"]).to_pydict() == {"pair_id": [7, 8], "class_id": [0, 1]}
    assert [m["class_id"] for m in chosen["matches"][0].as_py()] == [0, 1]
    assert coverage(chosen, queries) == [(0, "class 0", 1), (1, "class 1", 1)]


def test_a_shared_pair_counts_for_every_class_that_hit_it() -> None:
    hits = make_hits([(q, p, 0.9 - p / 100 - q / 50, p, "text") for q in range(2) for p in range(5)])
    queries = make_queries(2, 1)
    config = RetrieveConfig(exclusive=False, pairs_per_class=5)
    chosen = select(hits, queries, config)
    assert coverage(chosen, queries, config.exclusive) == [(0, "class 0", 5), (1, "class 1", 5)]
    named = queries.append_column("task", pa.array(["birds"] * 2))
    assert set_report(chosen, named, {}, 1, config.exclusive)["poor"] == []


def test_rank_fusion_lets_keys_of_different_scale_vote() -> None:
    """Text scores are high and image scores low: by score text alone decides, by rank both do."""
    hits = make_hits(
        [(0, 1, 0.95, 5, "text"), (1, 1, 0.94, 0, "text"), (0, 1, 0.20, 40, "image"), (1, 1, 0.30, 0, "image")]
    )
    queries = make_queries(2, 1)
    assert select(hits, queries, RetrieveConfig(fusion="score"))["class_id"].to_pylist() == [0]
    assert select(hits, queries, RetrieveConfig(fusion="rank"))["class_id"].to_pylist() == [1]


def test_z_scores_let_keys_of_different_scale_compete() -> None:
    """An image hit far above what images usually score beats a text hit that is ordinary for texts."""
    hits = make_hits(
        [(0, 1, 0.95, 5, "text"), (1, 1, 0.94, 0, "text"), (0, 1, 0.20, 40, "image"), (1, 1, 0.30, 0, "image")]
    )
    queries, scales = make_queries(2, 1), {("text", "text"): (0.9, 0.02), ("text", "image"): (0.1, 0.05)}
    chosen = select(hits, queries, RetrieveConfig(fusion="z-score"), scales=scales)
    assert chosen["class_id"].to_pylist() == [1]  # 4 standard deviations against 2.5
    assert chosen["score"].to_pylist() == [np.float32(0.94)]  # a cosine, whatever decides
    seeded = queries.append_column("modality", pa.array(["text", "image"]))
    scales |= {("image", "image"): (0.25, 0.05), ("image", "text"): (0.9, 0.05)}  # images lie nearer to images
    assert select(hits, seeded, RetrieveConfig(fusion="z-score"), scales=scales)["class_id"].to_pylist() == [0]


@pytest.mark.parametrize("image_share", [0.001, 0.3, 0.5, 0.9])
def test_a_class_keeps_its_best_of_each_key_up_to_its_share(image_share: float) -> None:
    queries, hits = make_queries(1, 1), random_hits(1, 300, 60, seed=3)
    of_key = {key: hits.filter(pc.equal(hits["key"], key))["pair_id"].to_pylist() for key in ("image", "text")}
    ranked = {}
    for key, pairs in of_key.items():
        score = dict(zip(pairs, hits.filter(pc.equal(hits["key"], key))["score"].to_pylist(), strict=True))
        ranked[key] = sorted(pairs, key=lambda pair, score=score: (-score[pair], pair))
    for count in (1, 2, 3, 10, 37, 100):
        config = RetrieveConfig(pairs_per_class=count, image_share=image_share)
        chosen = set(select(hits, queries, config)["pair_id"].to_pylist())
        assert len(chosen) == min(count, len(set(of_key["image"]) | set(of_key["text"])))
        of_image = int(Fraction(str(image_share)) * count)
        assert chosen >= set(ranked["image"][:of_image]) | set(ranked["text"][: count - of_image - 1])
    few = RetrieveConfig(max_pairs=10, image_share=image_share)
    assert select(hits, queries, few).equals(
        select(hits, queries, RetrieveConfig(pairs_per_class=10, image_share=image_share))
    )


def test_the_limit_on_all_pairs_takes_the_best_of_every_class_first() -> None:
    hits = make_hits([(0, p, 0.9 - p / 100, p, "text") for p in range(10)] + [(1, 50, 0.1, 0, "text")])
    queries = make_queries(3, 1)
    chosen = select(hits, queries, RetrieveConfig(max_pairs=4))
    assert chosen["pair_id"].to_pylist() == [0, 1, 2, 50]
    assert coverage(chosen, queries) == [(0, "class 0", 3), (1, "class 1", 1), (2, "class 2", 0)]
    shared = select(random_hits(18, 60, 12, seed=2), make_queries(6, 3), RetrieveConfig(max_pairs=9, exclusive=False))
    assert shared.num_rows == 9


def test_no_hits_give_an_empty_table_and_a_full_list_of_poor_classes() -> None:
    queries = make_queries(2, 1)
    chosen = select(make_hits([]), queries, RetrieveConfig())
    assert chosen.num_rows == 0 and chosen.schema.equals(MATCHED)
    assert coverage(chosen, queries) == [(0, "class 0", 0), (1, "class 1", 0)]


def test_hits_of_other_queries_are_refused() -> None:
    with pytest.raises(RetrievalError, match="retrieve again"):
        select(make_hits([(9, 1, 0.5, 0, "text")]), make_queries(2, 1), RetrieveConfig())


def best_scores(hits: pa.Table, queries: pa.Table, config: RetrieveConfig) -> tuple[np.ndarray, np.ndarray]:
    asked = AskedClasses(queries)
    return claims_of(HitColumns.read(hits, asked, config), asked, config).best_scores()


def test_what_a_screen_drops_is_not_chosen_and_the_class_takes_the_next() -> None:
    hits = make_hits([(0, p, 0.9 - p / 100, p, "text") for p in range(6)] + [(1, 0, 0.95, 0, "text")])
    queries = make_queries(2, 1)
    pair_ids, score = best_scores(hits, queries, RetrieveConfig())
    assert pair_ids.tolist() == [0, 1, 2, 3, 4, 5] and score[:2].tolist() == [np.float32(0.95), np.float32(0.89)]
    screen = Screen(pair_ids, np.array([False, True, False, True, True, True]), np.zeros(6, np.int64), np.arange(6))
    chosen = select(hits, queries, RetrieveConfig(pairs_per_class=3), screen)
    assert chosen["pair_id"].to_pylist() == [1, 3, 4]
    assert coverage(chosen, queries) == [(0, "class 0", 3), (1, "class 1", 0)]
    floor = RetrieveConfig(min_score=0.88)
    assert best_scores(hits, queries, floor)[0].tolist() == [0, 1, 2]


def test_a_host_gives_each_class_so_many_pairs_and_no_host_is_no_host() -> None:
    hits = make_hits([(0, p, 0.9 - p / 100, p, "text") for p in range(8)] + [(1, p, 0.5, p, "text") for p in (8, 9)])
    queries = make_queries(2, 1)
    host = np.array([1, 1, 1, 2, -1, -1, -1, 2, 1, 1])
    screen = Screen(np.arange(10), np.ones(10, bool), host, np.arange(10))
    chosen = select(hits, queries, RetrieveConfig(max_per_domain=1), screen)
    assert chosen["pair_id"].to_pylist() == [0, 3, 4, 5, 6, 8]
    assert select(hits, queries, RetrieveConfig(max_per_domain=1, pairs_per_class=2), screen)[
        "pair_id"
    ].to_pylist() == [0, 3, 8]


def test_classes_of_one_task_that_share_a_name_share_their_pairs() -> None:
    queries = make_queries(3, 1).append_column("task", pa.array(["a", "a", "b"]))
    queries = queries.set_column(
        queries.column_names.index("class_name"), "class_name", pa.array(["owl", "owl", "owl"])
    )
    hits = make_hits([(1, 5, 0.9, 0, "text"), (0, 6, 0.8, 0, "text"), (2, 7, 0.7, 0, "text")])
    chosen = select(hits, queries, RetrieveConfig())
    assert chosen["class_id"].to_pylist() == [0, 0, 2]
    assert coverage(chosen, queries) == [(0, "owl", 2), (1, "owl", 2), (2, "owl", 1)]


def test_random_pairs_have_no_class_in_the_coverage() -> None:
    assert coverage(select_random([(0, 9)], 5, seed=0), make_queries(2, 1)) == [(0, "class 0", 0), (1, "class 1", 0)]


def test_names_are_found_in_captions_whatever_keys_a_search_would_compare() -> None:
    hits = make_hits([(0, 7, 0.9, 0, "text")])
    config = RetrieveConfig(selection="string", keys=["image"])
    assert select(hits, make_queries(1, 1), config)["pair_id"].to_pylist() == [7]
