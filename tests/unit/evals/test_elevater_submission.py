"""A submission has the fields and names of the toolkit, and its probabilities."""

from __future__ import annotations

import json

import numpy as np

from react_ray.clip.builtin_tasks import builtin_names
from react_ray.evals.elevater_submission import TOOLKIT_NAMES, Submission, toolkit_name


def test_a_file_has_the_fields_of_the_toolkit_and_six_digits_of_each_draw() -> None:
    draws = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 5)).astype(np.float32)
    about = Submission("base", toolkit_name("eurosat"), 12, 23, 9, 11, 5, [0, 1])
    found = json.loads(b"".join(about.pieces(iter(draws))))
    np.testing.assert_allclose(found["predictions"], draws, atol=5e-7)
    assert all(len(str(value)) <= 8 for value in found.pop("predictions")[0][0])
    assert found == {
        "model_name": "base",
        "dataset_name": "eurosat_clip",
        "num_trainable_params": 12,
        "num_params": 23,
        "num_visual_params": 9,
        "num_backbone_params": 11,
        "n_shot": 5,
        "rnd_seeds": [0, 1],
    }


def test_names_of_the_toolkit_are_of_tasks_that_are_built_in() -> None:
    assert set(TOOLKIT_NAMES) <= set(builtin_names())
