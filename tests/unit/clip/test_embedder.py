from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from react_ray.clip.backbone import Backbone
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TasksConfig, load_tasks
from react_ray.clip.text import can_truncate, text_features
from react_ray.gated.load import load_backbone
from tests.support.tiny_clip import tiny_backbone, tiny_config

TEXTS = ["a", "heron", "", "a great egret in the reeds at dawn", "heron", "x " * 40, "flag of Côte d’Ivoire"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return tiny_backbone(tmp_path_factory.mktemp("tiny"))


def images(count: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def test_images_equal_open_clips_own_features(backbone: Backbone) -> None:
    with torch.inference_mode():
        expected = backbone.model.encode_image(backbone.normalize(torch.from_numpy(images())), normalize=True)
    found = Embedder(backbone, 3, "cpu").embed_images(images())
    assert found.dtype == np.float16 and found.shape == (7, 16)
    np.testing.assert_allclose(found, expected.half().numpy(), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(found.astype(np.float32), axis=1), 1, atol=2e-3)


def test_the_batch_size_does_not_change_a_vector_beyond_rounding(backbone: Backbone) -> None:
    whole, pieces = (Embedder(backbone, size, "cpu") for size in (64, 2))
    np.testing.assert_allclose(whole.embed_images(images()), pieces.embed_images(images()), atol=1e-3)
    np.testing.assert_allclose(whole.embed_texts(TEXTS), pieces.embed_texts(TEXTS), atol=1e-3)


def test_threads_that_share_a_batch_change_no_row_and_leave_the_callers_threads_alone(backbone: Backbone) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        many = Embedder(backbone, 64, "cpu")
        found = [many.embed_images(images(40)), many.embed_texts(TEXTS * 8)]
        again = many.embed_images(images(40))
        left = torch.get_num_threads()
        torch.set_num_threads(1)
        one = Embedder(backbone, 64, "cpu")
    finally:
        torch.set_num_threads(before)
    for mine, expected in zip(found, [one.embed_images(images(40)), one.embed_texts(TEXTS * 8)], strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-3)
    np.testing.assert_array_equal(found[0], again)
    assert left == 3


def test_texts_equal_open_clips_own_features_in_order(backbone: Backbone) -> None:
    with torch.inference_mode():
        expected = backbone.model.encode_text(backbone.tokenizer(TEXTS), normalize=True)
    found = Embedder(backbone, 2, "cpu").embed_texts(TEXTS)
    np.testing.assert_allclose(found, expected.half().numpy(), atol=1e-3)
    assert np.array_equal(found[1], found[4])


@pytest.mark.parametrize("custom_text", [False, True])
def test_cutting_the_padding_is_exact(tmp_path: Path, backbone: Backbone, custom_text: bool) -> None:
    model = backbone.model
    if custom_text:
        path = Path(tiny_config(tmp_path))
        path.write_text(path.read_text().replace('"embed_dim"', '"custom_text": true, "embed_dim"'))
        model = load_backbone(BackboneConfig(name=str(path), pretrained="random")).model
        assert hasattr(model, "text")
    assert can_truncate(model)
    tokens = backbone.tokenizer([text for text in TEXTS if len(text) < 40])
    with torch.inference_mode():
        assert (text_features(model, tokens) - model.encode_text(tokens)).abs().max() <= 1e-6


@pytest.mark.parametrize("text", [{"pool_type": "last"}, {"no_causal_mask": True}, {"embed_cls": True}])
def test_other_text_towers_see_the_whole_context(tmp_path: Path, backbone: Backbone, text: dict[str, object]) -> None:
    path = Path(tiny_config(tmp_path, text=text))
    path.write_text(path.read_text().replace('"embed_dim"', '"custom_text": true, "embed_dim"'))
    model = load_backbone(BackboneConfig(name=str(path), pretrained="random")).model
    assert not can_truncate(model)
    tokens = backbone.tokenizer(TEXTS)
    with torch.inference_mode():
        assert torch.equal(text_features(model, tokens), model.encode_text(tokens))


def test_gradients_of_cut_captions_are_those_of_whole_ones(backbone: Backbone) -> None:
    tokens = backbone.tokenizer(["a heron", "an egret in the reeds"])
    weight = backbone.model.text_projection
    expected = torch.autograd.grad(backbone.model.encode_text(tokens).square().sum(), weight)[0]
    found = torch.autograd.grad(text_features(backbone.model, tokens).square().sum(), weight)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_classifier_is_the_normalised_mean_of_normalised_prompts(backbone: Backbone) -> None:
    (task,) = load_tasks(
        TasksConfig(class_names=["heron", ["egret", "white heron"]], templates=["a {}.", "the {} there", "{}"])
    )
    with torch.inference_mode():
        rows = [
            F.normalize(
                F.normalize(
                    backbone.model.encode_text(
                        backbone.tokenizer([t.replace("{}", n) for n in names for t in task.templates])
                    ),
                    dim=1,
                ).mean(0),
                dim=0,
            )
            for names in (["heron"], ["egret", "white heron"])
        ]
    found = Embedder(backbone, 4, "cpu").zero_shot_classifier(task)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, torch.stack(rows).numpy(), atol=1e-5)


def test_nothing_in_gives_nothing_out(backbone: Backbone) -> None:
    embedder = Embedder(backbone, 4, "cpu")
    assert embedder.embed_images(images(0)).shape == embedder.embed_texts([]).shape == (0, 16)


def test_rows_that_are_not_finite_are_nan_and_leave_the_others_alone(tmp_path: Path) -> None:
    broken = tiny_backbone(tmp_path)
    poisoned = broken.tokenizer(["heron"])[0, 1]
    broken.model.token_embedding.weight.data[poisoned] = torch.inf
    found = Embedder(broken, 4, "cpu").embed_texts(["egret", "heron"])
    assert np.isnan(found[1]).all() and np.isfinite(found[0]).all()


def test_bf16_is_close_and_still_gives_float16(tmp_path: Path) -> None:
    exact, rounded = (tiny_backbone(tmp_path, precision=p) for p in ("fp32", "bf16"))
    a, b = (Embedder(x, 4, "cpu").embed_images(images()).astype(np.float32) for x in (exact, rounded))
    assert ((a * b).sum(1) > 0.999).all() and not np.array_equal(a, b)
