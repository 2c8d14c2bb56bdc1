"""A submission has the fields and names of the toolkit, and its probabilities."""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import nn

from react_ray.clip.builtin_tasks import builtin_names
from react_ray.evals.elevater_submission import TOOLKIT_NAMES, submission


def test_probabilities_are_the_softmax_of_100_cosines_and_parameters_are_counted() -> None:
    random = np.random.default_rng(0)
    image_ND, text_CD = (random.normal(size=(n, 8)) for n in (5, 3))
    image_ND, text_CD = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image_ND, text_CD))
    model = nn.ModuleDict({"visual": nn.Linear(2, 3), "text": nn.Linear(1, 1)})
    found = json.loads(submission(image_ND, text_CD, model, "base", "eurosat"))
    expected_NC = torch.from_numpy(100 * image_ND @ text_CD.T).softmax(dim=1).numpy()
    np.testing.assert_allclose(found.pop("predictions"), [expected_NC], atol=1e-6)
    assert found == {
        "model_name": "base",
        "dataset_name": "eurosat_clip",
        "num_trainable_params": 0,
        "num_params": 11,
        "num_visual_params": 9,
        "num_backbone_params": 11,
        "n_shot": 0,
        "rnd_seeds": [0],
    }


def test_names_of_the_toolkit_are_of_tasks_that_are_built_in() -> None:
    assert set(TOOLKIT_NAMES) <= set(builtin_names())
