"""The mean over many sets is one over all tasks, or there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.draft import create
from react_ray.evals.score import ALL_SETS, ZERO_SHOT, Score, score_table
from react_ray.kinds import SCORES, ScoresFacts
from react_ray.runtime.layout import Layout
from react_ray.stages.evaluating.all_scores import all_scores, over_sets
from tests.support.scored_run import recipe_of


def score(model: str, task: str, value: float) -> Score:
    return Score(ZERO_SHOT, model, task, "mean", "task_metric", value, 10)


def test_the_mean_over_sets_needs_a_set_of_every_task() -> None:
    scores = [score("base", "pets", 0.2), score("base", "dtd", 0.4), score("arm", "pets", 0.9)]
    assert over_sets(scores, ["pets", "dtd"]) == [
        Score(ZERO_SHOT, "base", ALL_SETS, "mean", "task_metric", pytest.approx(0.3), 20)
    ]
    assert over_sets(scores, ["pets", "dtd", "mnist"]) == []
    assert over_sets(scores, ["pets"]) == []


def test_scores_of_an_arm_that_the_recipe_no_longer_has_are_left_out(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    for row in ("base", "gated_image", "earlier_arm"):
        draft = create(Layout(recipe).scores_few(row, "test"), SCORES, {}, {}, 1)
        draft.commit(0, score_table([score(row, "birds", 0.5)]), 0.1)
        draft.seal(ScoresFacts([]))
    assert [found.model for found in all_scores(recipe)] == ["base", "gated_image"]
