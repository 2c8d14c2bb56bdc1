"""How many pairs a training can get, and what is refused before Ray starts because even so many are too few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from react_ray.draft import create
from react_ray.errors import ConfigError
from react_ray.kinds import MODEL, PAIRS, RETRIEVED, ModelFacts, PairsFacts, RetrievedFacts
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.most_pairs import check_schedules, most_pairs
from tests.support.small_run import small_recipe

NAMES = {"class_names": ["heron", ["great egret", "white heron"], "ibis"]}


def recipe(folder: Path, **retrieve: Any) -> Recipe:
    changes: dict[str, Any] = {"tasks": NAMES, "ingest": {"source": "sample://pool.parquet"}, "arms": {}}
    return load_recipe(small_recipe(folder, **changes, retrieve=retrieve))


def made(uri: str, kind: Any, facts: Any, rows: int) -> None:
    draft = create(uri, kind, {}, {}, 1)
    draft.commit(0, pa.table({"pair_id": range(rows)}), 0.0)
    draft.seal(facts)


@pytest.mark.parametrize(
    ("retrieve", "most"),
    [
        ({"k": 10}, 4 * 2 * 10),  # four names, in one template, compared with two keys
        ({"k": 10, "keys": ["text"], "prompts": "averaged"}, 3 * 10),
        ({"k": 10, "max_k": 500, "pairs_per_class": 100}, 3 * 100),
        ({"k": 10, "pairs_per_class": 100}, 4 * 2 * 10),
        ({"pairs_per_class": 50}, 3 * 50),
        ({}, 4 * 2 * 100),
        ({"k": 10, "max_pairs": 50}, 50),
        ({"k": 10, "selection": "random"}, 4 * 2 * 10),
        ({"k": 10, "selection": "string"}, None),
        ({"selection": "string", "pairs_per_class": 7}, 21),
    ],
)
def test_the_recipe_says_how_many_pairs_there_can_be(tmp_path: Path, retrieve: dict[str, Any], most: int) -> None:
    assert most_pairs(recipe(tmp_path, **retrieve)) == most


def test_seed_images_ask_for_nobody_knows_how_much_and_the_source_is_no_retrieval(tmp_path: Path) -> None:
    path = small_recipe(tmp_path, tasks=NAMES | {"seed_images": {"stork": ["s3://bucket/storks/"]}}, arms={})
    assert most_pairs(load_recipe(path)) == 1200  # ingest.max_rows
    assert most_pairs(load_recipe(path, ["ingest.max_rows=0"])) is None
    assert most_pairs(load_recipe(path, ["ingest.max_rows=0", "retrieve.pairs_per_class=5"])) == 20
    assert most_pairs(load_recipe(path, ["customize.train_on=source"])) is None


def test_what_is_there_bounds_better_than_what_is_asked_for(tmp_path: Path) -> None:
    asked = recipe(tmp_path, k=100)
    assert most_pairs(asked) == 800
    made(f"{asked.database}/pairs", PAIRS, PairsFacts(), 90)
    assert most_pairs(asked) == 90
    made(f"{asked.out}/retrieved", RETRIEVED, RetrievedFacts({}, 16, []), 70)
    assert most_pairs(asked) == 70


def test_a_training_that_cannot_move_whatever_is_retrieved_is_refused(tmp_path: Path) -> None:
    given = {"epochs": 8, "batch_size": 1024, "warmup_steps": 500}
    arms = {"plain": {}, "short": {f"customize.{name}": value for name, value in given.items()}}
    path = small_recipe(tmp_path, tasks=NAMES, ingest={"source": "sample://pool.parquet"}, customize={}, arms=arms)
    short = load_recipe(path, ["retrieve={k: 300}"])
    with pytest.raises(ConfigError, match=r"^customize short: in 16 steps of 2,400 pairs the gates, .*; set customize"):
        check_schedules(short)
    with pytest.raises(ConfigError, match=r"batch_size 1024 is larger than the 80 pairs that there can be at most; "):
        check_schedules(load_recipe(path, ["retrieve={k: 10}"]))
    check_schedules(load_recipe(path, ["retrieve={k: 300}", "arms.short.customize.gate_lr_scale=50"]))
    made(f"{short.out}/retrieved", RETRIEVED, RetrievedFacts({}, 16, []), 1500)
    with pytest.raises(ConfigError, match="in 8 steps of 1,500 pairs"):
        check_schedules(short)
    made(f"{short.out}/arms/short/model", MODEL, ModelFacts({}, "gated-image"), 0)
    check_schedules(short)  # it was trained by an earlier version
