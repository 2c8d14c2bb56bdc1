"""Ray Serve is told how many processes a group wants, by something that it can load without this package."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.config import AutoscalingPolicy

from react_ray.stages.serving.application import TARGET, by_questions
from react_ray.stages.serving.group_replica import QUESTIONS

LOADED_ELSEWHERE = """
import pickle, sys
sys.modules["react_ray"] = None  # importing it fails
from types import SimpleNamespace
policy = pickle.loads(sys.stdin.buffer.read())
print(policy(SimpleNamespace(aggregated_metrics={"questions": {"a": 9.0, "b": 3.0}}))[0])
"""


@pytest.mark.parametrize("metrics", [None, {}, {"other": {"a": 5.0}}])
def test_without_questions_none_is_wanted(metrics: Any) -> None:
    assert by_questions(SimpleNamespace(aggregated_metrics=metrics)) == (0, {})  # type: ignore[arg-type]


def test_the_controller_of_ray_serve_needs_nothing_of_this_package() -> None:
    pickled = AutoscalingPolicy(policy_function=by_questions).get_serialized_policy_def()
    done = subprocess.run([sys.executable, "-c", LOADED_ELSEWHERE], input=pickled, capture_output=True)
    assert QUESTIONS == "questions"
    assert float(done.stdout) == 12 / TARGET, done.stderr.decode()
