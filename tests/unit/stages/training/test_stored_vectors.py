"""Linear heads of several tasks, which train side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from react_ray.errors import TrainingDiverged
from react_ray.gated.config import CustomizeConfig
from react_ray.stages.training.stored_vectors import trained
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.linear_head import train_head

CLASSES = [("birds", "heron"), ("birds", "crane"), ("tools", "saw"), ("tools", "axe"), ("tools", "file"), ("no", "one")]
DIM = 12


def config(**changes: float) -> CustomizeConfig:
    values = {"method": "linear", "lr": 0.02, "epochs": 5, "batch_size": 8, "warmup_steps": 0, "head_scale": 20.0}
    return CustomizeConfig.model_validate(values | changes)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def given() -> tuple[LabelledVectors, np.ndarray]:
    """Vectors of all classes but the last, and prompts that know them badly."""
    random = np.random.default_rng(0)
    start_CD = unit(random.standard_normal((len(CLASSES), DIM)))
    class_id_N = np.arange(100) % 5
    image_ND = unit(start_CD[class_id_N] + 0.5 * random.standard_normal((100, DIM)))
    return LabelledVectors.of_one_class(image_ND, class_id_N), start_CD


def test_each_task_has_the_head_that_it_would_have_alone_and_one_without_pairs_keeps_its_prompts(
    two_threads: None,
) -> None:
    vectors, start_CD = given()
    weight_C = np.linspace(0.5, 1.5, len(CLASSES)).astype(np.float32)
    head_CD = trained(vectors, start_CD, CLASSES, config(), 3, weight_C)
    for rows in (slice(0, 2), slice(2, 5)):
        own = vectors.of_task(rows.start, rows.stop)
        np.testing.assert_allclose(
            head_CD[rows], train_head(own, start_CD[rows], config(), 3, weight_C[rows]), atol=1e-5
        )
    np.testing.assert_array_equal(head_CD[5:], start_CD[5:])
    assert (np.abs(head_CD - start_CD).max(axis=1) > 1e-3).tolist() == [True] * 5 + [False]


def test_the_error_of_one_task_ends_the_others_soon(two_threads: None) -> None:
    """The first task would take a million steps."""
    vectors, start_CD = given()
    rows = np.concatenate([np.tile(np.flatnonzero(vectors.class_id_NL[:, 0] < 2), 200), [2] * 8])
    image_ND, class_id_N = vectors.image_ND[rows], vectors.class_id_NL[rows, 0]
    image_ND[class_id_N == 2] = np.nan
    with pytest.raises(TrainingDiverged, match=r"lower customize\.lr"):
        trained(LabelledVectors.of_one_class(image_ND, class_id_N), start_CD, CLASSES, config(epochs=1000), 3)
