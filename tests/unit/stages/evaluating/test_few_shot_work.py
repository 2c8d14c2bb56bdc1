"""What was learned becomes predictions with the classifier's own probabilities."""

from __future__ import annotations

import numpy as np

from react_ray.clip.prompts import TargetTask
from react_ray.evals.shot_methods import Learned
from react_ray.stages.evaluating.features import Features
from react_ray.stages.evaluating.few_shot_work import _predict


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    task = TargetTask("pets", ("cat", "dog"), ("{}",), (("cat",), ("dog",)), metric="roc_auc")
    probability_NC = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]])
    label_N = np.array([0, 1, 1])
    test = Features(np.zeros((3, 2)), label_N, np.full(3, "pets", object), np.arange(3))
    logit_NC = (np.log(probability_NC) + 5).astype(np.float32)
    logit_NC[2] = np.nan  # an image that cannot be read
    table = _predict(Learned(logit_NC), test, task, "test")
    assert table["class_scores"].to_pylist()[2] is None
    np.testing.assert_allclose(np.exp(table["class_scores"].to_pylist()[:2]), probability_NC[:2], atol=1e-6)
    assert table["rank"].to_pylist() == [0, 0, None]
