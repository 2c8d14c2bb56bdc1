"""Scores in the layout of lm-evaluation-harness: a task for each set and way of learning, the mean over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.evals.lm_eval_results import lm_eval_results
from react_ray.evals.score import ALL_SHOTS, COLLAPSED, ZERO_SHOT, Score

SCORES = [
    Score(ZERO_SHOT, "base", "pets", "pets", "top1", 0.75, 4),
    Score(ZERO_SHOT, "base", "pets", "pets", "mean_per_class", 0.5, 4),
    Score(ZERO_SHOT, "base", "pets", "mean", "task_metric", 0.75, 4),
    Score(ZERO_SHOT, "other", "pets", "pets", "top1", 1.0, 4),
    Score("elevater-probe", "base", "test", "pets", "top1", 0.5, 10, 5, 0, "last epoch"),
    Score("elevater-probe", "base", "test", "pets", "top1", 0.7, 10, 5, 1, "last epoch"),
    Score("elevater-probe", "base", "test", "pets", COLLAPSED, 1.0, 10, 5, 1, "last epoch"),
    Score("elevater-probe", "base", "test", "pets", "top1", 0.9, 10, 5, 0, "best epoch on the test set"),
    Score("linear-probe", "base", "test", "pets", "top1", 0.8, 10, ALL_SHOTS, 0),
]


def test_a_model_has_its_own_tasks_with_the_standard_error_of_the_harness() -> None:
    found = lm_eval_results(SCORES, "base", "1.0")
    probe = "test_pets_elevater-probe_5_shot_last_epoch"
    assert list(found["results"]) == ["pets", probe, "test_pets_linear-probe_all_shots"]
    right_N = np.array([1, 1, 1, 0])
    assert found["results"]["pets"] == {
        "alias": "pets",
        "acc,none": 0.75,
        "acc_stderr,none": pytest.approx(right_N.std(ddof=1) / 2),
        "mean_per_class,none": 0.5,
        "mean_per_class_stderr,none": "N/A",
    }
    assert found["results"][probe]["acc,none"] == pytest.approx(0.6)
    assert "collapsed,none" not in found["results"][probe]
    assert found["n-shot"] == {"pets": 0, probe: 5, "test_pets_linear-probe_all_shots": -1}
    assert found["n-samples"]["pets"] == {"original": 4, "effective": 4} and found["versions"]["pets"] == "1.0"
    assert lm_eval_results(SCORES, "other", "1.0")["results"]["pets"]["acc,none"] == 1.0
