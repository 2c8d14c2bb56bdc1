from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from react_ray.errors import ConfigError, TrainingDiverged
from react_ray.gated.config import CustomizeConfig
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.linear_head import head_loss, train_head

NUM_CLASSES, DIM = 5, 16


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def problem(num_images: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images around true class directions, and prompts that know these badly."""
    true_CD = unit(np.random.default_rng(0).standard_normal((NUM_CLASSES, DIM)))
    start_CD = unit(true_CD + 0.8 * unit(np.random.default_rng(1).standard_normal((NUM_CLASSES, DIM))))
    generator = np.random.default_rng(seed)
    class_id_N = generator.integers(0, NUM_CLASSES, num_images)
    image_ND = unit(true_CD[class_id_N] + 0.3 * generator.standard_normal((num_images, DIM)))
    return image_ND.astype(np.float16), class_id_N, start_CD


def config(**changes: float) -> CustomizeConfig:
    given = {"method": "linear", "lr": 0.02, "epochs": 20, "batch_size": 32, "warmup_steps": 0, "head_scale": 20.0}
    return CustomizeConfig.model_validate(given | changes)


def accuracy(head_CD: np.ndarray) -> float:
    image_ND, class_id_N, _ = problem(500, seed=3)
    return float(((image_ND @ head_CD.T).argmax(1) == class_id_N).mean())


def test_a_head_learns_from_prompts_on_and_is_the_same_each_time() -> None:
    image_ND, class_id_N, start_CD = problem(200, seed=2)
    heads = [
        train_head(LabelledVectors.of_one_class(image_ND, class_id_N), start_CD, config(), seed=0) for _ in range(2)
    ]
    np.testing.assert_array_equal(heads[0], heads[1])
    assert (
        train_head(LabelledVectors.of_one_class(image_ND, class_id_N), start_CD, config(), seed=1) != heads[0]
    ).any()
    np.testing.assert_allclose(np.linalg.norm(heads[0], axis=1), 1, rtol=1e-6)
    assert accuracy(heads[0]) > accuracy(start_CD) + 0.05


def test_it_starts_at_the_prompts() -> None:
    image_ND, class_id_N, start_CD = problem(40, seed=2)
    first: list[float] = []
    train_head(
        LabelledVectors.of_one_class(image_ND, class_id_N),
        start_CD,
        config(batch_size=40),
        seed=0,
        show=lambda step, steps, loss: first.append(loss),
    )
    logits = 20 * F.normalize(torch.from_numpy(image_ND).float(), dim=1) @ torch.from_numpy(start_CD).T
    assert first[0] == pytest.approx(F.cross_entropy(logits, torch.from_numpy(class_id_N)).item(), rel=1e-5)
    assert len(first) == 20 and first[-1] < first[0]


def test_weights_are_factors_of_the_images_terms() -> None:
    image_ND, class_id_N, start_CD = problem(6, seed=2)
    image_BD, labels, head = (
        torch.from_numpy(image_ND).float(),
        torch.from_numpy(class_id_N),
        torch.from_numpy(start_CD),
    )
    weight_C, target_BC = torch.arange(NUM_CLASSES).float(), F.one_hot(labels, NUM_CLASSES).float()
    each = torch.stack([head_loss(image_BD[i : i + 1], target_BC[i : i + 1], head, 20) for i in range(6)])
    torch.testing.assert_close(
        each, F.cross_entropy(20 * image_BD @ head.T, labels, reduction="none"), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(head_loss(image_BD, target_BC, head, 20, weight_C), (each * weight_C[labels]).mean())


def test_without_images_there_is_no_head() -> None:
    with pytest.raises(ConfigError, match="retrieve more"):
        train_head(
            LabelledVectors.of_one_class(np.zeros((0, DIM), np.float16), np.zeros(0, int)),
            problem(1, 0)[2],
            config(),
            0,
        )


def test_a_head_that_diverges_is_no_head() -> None:
    image_ND, class_id_N, start_CD = problem(64, seed=2)
    with pytest.raises(TrainingDiverged, match="lower customize"):
        train_head(LabelledVectors.of_one_class(image_ND, class_id_N), start_CD, config(lr=1e38), 0)
