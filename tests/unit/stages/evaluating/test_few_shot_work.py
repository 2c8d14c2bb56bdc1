"""What was learned becomes predictions with the classifier's own probabilities."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from react_ray import schema
from react_ray.clip.prompts import TargetTask
from react_ray.evals.shot_methods import Learned
from react_ray.stages.evaluating.features import Features, features_in
from react_ray.stages.evaluating.few_shot_work import _predict


def features(task: TargetTask, labels: list[list[str]]) -> Features:
    """Of images whose vectors are not looked at."""
    rows = [
        {"row": row, "task": task.name, "label": of[0], "also": of[1:] or None, "image": bytes(4)}
        for row, of in enumerate(labels)
    ]
    return features_in(pa.Table.from_pylist(rows, schema.labelled_features(2)), task)


@pytest.mark.parametrize(("metric", "one_vs_rest"), [("roc_auc", False), ("map_11_point", True)])
def test_probabilities_are_the_softmax_of_the_logits_or_of_each_class_its_sigmoid(
    metric: str, one_vs_rest: bool
) -> None:
    task = TargetTask("pets", ("cat", "dog"), ("{}",), (("cat",), ("dog",)), metric=metric)
    probability_NC = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]])
    test = features(task, [["cat"], ["cat", "dog"] if one_vs_rest else ["dog"], ["dog"]])
    assert test.target.tolist() == ([[True, False], [True, True], [False, True]] if one_vs_rest else [0, 1, 1])
    logit_NC = np.log(probability_NC / (1 - probability_NC)) if one_vs_rest else np.log(probability_NC) + 5
    logit_NC[2] = np.nan  # an image that cannot be read
    table = _predict(Learned(logit_NC.astype(np.float32), one_vs_rest), test, task, "test")
    assert table["class_scores"].to_pylist()[2] is None
    np.testing.assert_allclose(np.exp(table["class_scores"].to_pylist()[:2]), probability_NC[:2], atol=1e-6)
    assert table["rank"].to_pylist() == [0, 0, None]
