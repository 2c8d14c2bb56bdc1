"""The mean over many sets is one over all tasks, or there is none."""

from __future__ import annotations

import pytest

from react_ray.evals.score import ALL_SETS, ZERO_SHOT, Score
from react_ray.stages.evaluating.all_scores import over_sets


def score(model: str, task: str, value: float) -> Score:
    return Score(ZERO_SHOT, model, task, "mean", "task_metric", value, 10)


def test_the_mean_over_sets_needs_a_set_of_every_task() -> None:
    scores = [score("base", "pets", 0.2), score("base", "dtd", 0.4), score("arm", "pets", 0.9)]
    assert over_sets(scores, ["pets", "dtd"]) == [
        Score(ZERO_SHOT, "base", ALL_SETS, "mean", "task_metric", pytest.approx(0.3), 20)
    ]
    assert over_sets(scores, ["pets", "dtd", "mnist"]) == []
    assert over_sets(scores, ["pets"]) == []
