from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from react_ray.clip.weights import weights_bytes, write_whole
from react_ray.errors import BackboneError, ConfigError
from react_ray.gated.config import CustomizeConfig
from react_ray.training.cache import Cache
from react_ray.training.head_file import Head, head_bytes, read_head
from react_ray.training.knn import Neighbours
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.scorer import ClassVectors


def unit(*shape: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


CLASSES = [("birds", "heron"), ("birds", "egret"), ("food", "bun"), ("food", "pie"), ("food", "soup")]
START, TRAINED, IMAGES = unit(5, 8, seed=0), unit(5, 8, seed=1), unit(6, 8, seed=2)
KEYS = {
    "keys": unit(4, 8, seed=3).astype(np.float16),
    "key_classes": np.array([[0, 2], [1, -1], [4, -1], [2, 4]], np.int32),
    "key_weights": np.array([[1, 1], [1, 0], [1, 0], [1, 0.5]], np.float32),
}
CONFIG = CustomizeConfig(head_scale=20, cache_alpha=2, cache_beta=3, knn_k=2, knn_temperature=0.5)


def saved(folder: Path, arrays: dict[str, np.ndarray], wise_ft: float = 1.0) -> Head:
    path = str(folder / "head.safetensors")
    write_whole(path, head_bytes(arrays, CLASSES, CONFIG, {"digest": "x"}))
    return read_head(path, wise_ft)


def test_a_linear_head_lies_between_the_prompts_and_what_was_trained(tmp_path: Path) -> None:
    arrays = {"head": TRAINED, "start": START}
    found = saved(tmp_path, arrays)
    assert (found.kind, found.classes, found.settings) == ("linear", CLASSES, {"head_scale": 20})
    assert found.info["digest"] == "x"
    np.testing.assert_allclose(found.vectors_CD, TRAINED, rtol=1e-6)
    np.testing.assert_allclose(saved(tmp_path, arrays, 0.0).vectors_CD, START, rtol=1e-5)
    middle = START + TRAINED
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    np.testing.assert_allclose(saved(tmp_path, arrays, 0.5).vectors_CD, middle, rtol=1e-4, atol=1e-6)
    scorers = found.scorers()
    assert list(scorers) == ["birds", "food"]
    score_NC = scorers["food"](IMAGES)
    np.testing.assert_allclose(score_NC, IMAGES @ TRAINED[2:].T, rtol=1e-5, atol=1e-6)
    softmax = torch.from_numpy(20 * score_NC).softmax(dim=1).numpy()
    np.testing.assert_allclose(found.probabilities(score_NC), softmax, rtol=1e-5)


def test_a_cache_and_neighbours_score_each_task_by_its_own_pairs(tmp_path: Path) -> None:
    keys = LabelledVectors(*KEYS.values()).of_task(2, 5)
    assert len(keys.image_ND) == 3
    cache = saved(tmp_path, KEYS | {"start": START})
    expected = Cache(ClassVectors(START[2:]), keys, 20, 2, 3)(IMAGES)
    np.testing.assert_allclose(cache.scorers()["food"](IMAGES), expected, rtol=1e-5)
    np.testing.assert_allclose(cache.probabilities(expected).sum(axis=1), 1, rtol=1e-5)
    prompts = saved(tmp_path, KEYS | {"start": START}, 0.0).scorers()["food"](IMAGES)
    np.testing.assert_allclose(prompts, 20 * IMAGES @ START[2:].T, rtol=1e-4, atol=1e-5)
    knn = saved(tmp_path, KEYS)
    votes = Neighbours(keys, 3, 2, 0.5)(IMAGES)
    np.testing.assert_allclose(knn.scorers()["food"](IMAGES), votes, rtol=1e-6)
    np.testing.assert_array_equal(knn.probabilities(votes), votes)
    with pytest.raises(ConfigError, match="kind knn has no vector for each class; use its scorers"):
        _ = knn.vectors_CD


def test_another_file_is_no_head(tmp_path: Path) -> None:
    path = str(tmp_path / "other.safetensors")
    write_whole(path, weights_bytes({"other": torch.zeros(2)}, {}))
    with pytest.raises(BackboneError, match=r"is no head; name the head\.safetensors that"):
        read_head(path)
