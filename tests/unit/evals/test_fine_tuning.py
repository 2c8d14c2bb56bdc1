"""Fine-tuning learns from the drawn images, changes what its method names alone, and always in the same way."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from react_ray.clip.backbone import Backbone
from react_ray.clip.embedder import Embedder
from react_ray.errors import BackboneError, ConfigError, TrainingDiverged
from react_ray.evals.classify import embed_rows
from react_ray.evals.few_shot import FINE_TUNING, FineTuning
from react_ray.evals.fine_tuning import LEARNING_RATES, OF_ONE_SHOT, fine_tune, trained_names
from react_ray.evals.metrics import log_softmax
from react_ray.evals.shot_methods import Shots
from tests.support.tiny_clip import open_gates, tiny_backbone

COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def gated(tmp_path: Path) -> Backbone:
    backbone = tiny_backbone(tmp_path, vocab_size=64, last_k_layers=2)
    open_gates(backbone.model)
    return backbone


def embedder_of(backbone: Backbone) -> Embedder:
    """Of a copy."""
    return Embedder(replace(backbone, model=copy.deepcopy(backbone.model)), 16, "cpu")


def images_of(count: int, seed: int) -> tuple[list[bytes], np.ndarray]:
    """Noisy images in one of three colours, and the number of the colour of each."""
    random = np.random.default_rng(seed)
    label_N = np.arange(count) % 3
    pixels = np.array(COLOURS)[label_N, None, None] + random.normal(scale=30, size=(count, 32, 32, 3))
    return [_png(image.clip(0, 255).astype(np.uint8)) for image in pixels], label_N


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def shots_of(backbone: Backbone, images: list[bytes], label_N: np.ndarray) -> Shots:
    """The class vectors know nothing of the images."""
    text_CD = np.random.default_rng(3).normal(size=(3, backbone.dim)).astype(np.float32)
    text_CD /= np.linalg.norm(text_CD, axis=1, keepdims=True)
    return Shots(embed_rows(images, embedder_of(backbone), 1), label_N, text_CD, seed=0)


def test_it_learns_what_the_prompts_do_not_know(gated: Backbone) -> None:
    images, label_N = images_of(9, 0)
    test_images, test_label_N = images_of(30, 1)
    shots, embedder = shots_of(gated, images, label_N), embedder_of(gated)
    zero_shot = (embed_rows(test_images, embedder, 1) @ shots.text_CD.T).argmax(axis=1) == test_label_N
    found = fine_tune(embedder, "fine-tune-gated", images, shots)
    right = found(embed_rows(test_images, embedder, 1)).argmax(axis=1) == test_label_N
    assert right.mean() >= 0.9 > zero_shot.mean() + 0.2
    assert found.learning_rate in LEARNING_RATES and not found.collapsed
    np.testing.assert_allclose(np.linalg.norm(found.head_CD, axis=1), 1, atol=1e-5)


def test_classes_that_an_image_shows_share_its_target(gated: Backbone) -> None:
    images, label_N = images_of(9, 0)
    true_NC = np.eye(3, dtype=bool)[label_N]
    true_NC[label_N == 2, 0] = True
    embedder = embedder_of(gated)
    found = fine_tune(embedder, "fine-tune-gated", images, shots_of(gated, images, true_NC))
    first_N = np.exp(log_softmax(found(embed_rows(images, embedder, 1)), scale=1))[:, 0]
    assert first_N[label_N == 0].min() > 0.9 > 0.1 > first_N[label_N == 1].max()
    assert first_N[label_N == 2].mean() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("method", FINE_TUNING)
def test_what_the_method_does_not_name_keeps_every_byte(gated: Backbone, method: FineTuning) -> None:
    images, label_N = images_of(3, 0)
    embedder = embedder_of(gated)
    fine_tune(embedder, method, images, shots_of(gated, images, label_N))
    trained, after = set(trained_names(gated.model, method)), embedder.backbone.model.state_dict()
    changed = {name for name, value in gated.model.state_dict().items() if not torch.equal(value, after[name])}
    assert changed <= trained and len(changed) > len(trained) / 2


def test_what_a_method_trains(gated: Backbone, tmp_path: Path) -> None:
    visual = {name for name, _ in gated.model.named_parameters() if name.startswith("visual.")}
    own, last, every = (set(trained_names(gated.model, method)) for method in FINE_TUNING)
    assert every == visual
    assert own == {name for name in visual if ".gated_attn_block." in name} and own
    assert {"visual.proj", "visual.ln_post.weight", "visual.transformer.resblocks.2.mlp.c_fc.weight"} <= last
    assert not any(name.startswith("visual.transformer.resblocks.1.") for name in last)
    plain = tiny_backbone(tmp_path, vocab_size=64)
    with pytest.raises(ConfigError, match="this model has none; evaluate a model that"):
        trained_names(plain.model, "fine-tune-gated")
    with pytest.raises(BackboneError, match=r"without transformer\.resblocks"):
        trained_names(torch.nn.Linear(1, 1), "fine-tune-last")


def test_the_same_draw_gives_the_same_classifier_and_of_one_shot_the_rate_is_the_published_one(gated: Backbone) -> None:
    images, label_N = images_of(3, 0)
    shots = shots_of(gated, images, label_N)
    first, second = (fine_tune(embedder_of(gated), "fine-tune-all", images, shots) for _ in range(2))
    np.testing.assert_array_equal(first.head_CD, second.head_CD)
    assert first.learning_rate == second.learning_rate == OF_ONE_SHOT


def test_weights_that_become_no_numbers_are_an_error(gated: Backbone) -> None:
    images, label_N = images_of(3, 0)
    shots = shots_of(gated, images, label_N)
    with torch.no_grad():
        gated.model.get_parameter("visual.proj").fill_(torch.nan)
    with pytest.raises(TrainingDiverged, match="ends in weights that are no numbers; leave it out of"):
        fine_tune(embedder_of(gated), "fine-tune-last", images, shots)
