"""What REACT and its tools see is what is seen here, with a real tiny CLIP: classes, labels and pixels.

The classifier is open_clip's own `build_zero_shot_classifier`, the loader torchvision's and Pillow's.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

from react_ray.clip.backbone import Backbone
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask
from react_ray.evals.zeroshot import predict
from react_ray.pairs.image import decode_rgb
from react_ray.training.class_loss import ClassTargets, class_loss, target_matrix
from react_ray.training.scorer import ClassVectors
from tests.support.tiny_clip import tiny_backbone

NAMES = ("missile", "heron", "sunglasses", "bow", "missile", "owl", "sunglasses")
TEMPLATES = ("a photo of a {}.", "art of the {}.")
BIRDS = ("heron", "stork", "owl")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return tiny_backbone(tmp_path_factory.mktemp("clip"))


def task(name: str, names: tuple[str, ...]) -> TargetTask:
    return TargetTask(name, names, TEMPLATES, tuple((one,) for one in names))


def official(backbone: Backbone, names: tuple[str, ...]) -> torch.Tensor:
    """float32 [D, C], by open_clip."""
    model: Any = backbone.model
    return open_clip.build_zero_shot_classifier(
        model, backbone.tokenizer, names, [template.format for template in TEMPLATES], num_classes_per_batch=None
    )


def image_vectors(backbone: Backbone, count: int) -> torch.Tensor:
    """float32 [N, D], unit norm: images near one class each, by mixing noise with the classifier."""
    generator = torch.Generator().manual_seed(0)
    classes_DC = official(backbone, NAMES)
    near_ND = classes_DC.T[torch.arange(count) % len(NAMES)]
    return torch.nn.functional.normalize(near_ND + 0.05 * torch.randn(near_ND.shape, generator=generator), dim=1)


def test_labels_by_position_score_as_the_argmax_of_open_clip_s_classifier(backbone: Backbone) -> None:
    image_ND = image_vectors(backbone, 70)
    label_N = np.arange(70) % len(NAMES)
    names = [NAMES[label] for label in label_N]
    logits_NC = image_ND.double() @ official(backbone, NAMES).double()  # in float32, sums of equal columns may differ
    argmax_N = logits_NC.float().numpy().argmax(axis=1)
    prompts = ClassVectors(Embedder(backbone, 4, "cpu").zero_shot_classifier(task("imagenet", NAMES)))
    by_position = predict(image_ND.numpy(), prompts, list(NAMES), names, "test", "imagenet", position_N=label_N)
    right = np.array(by_position["rank"].to_pylist()) == 0
    assert (right == (argmax_N == label_N)).all() and 0 < right.sum() < 70
    assert not right[label_N == 4].any(), "the first of two classes with one name takes all images"
    by_name = predict(image_ND.numpy(), prompts, list(NAMES), names, "test", "imagenet")
    same_name = np.array([NAMES[found] for found in argmax_N]) == np.array(names)
    assert ((np.array(by_name["rank"].to_pylist()) == 0) == same_name).all() and same_name.sum() > right.sum()


def test_the_class_loss_is_the_cross_entropy_of_open_clip_s_classifier_of_each_task(backbone: Backbone) -> None:
    image_ND = image_vectors(backbone, 3)
    things = ("heron", "missile", "bow")
    scale = torch.tensor(2.0)
    vector_CD = torch.cat([official(backbone, BIRDS).T, official(backbone, things).T])
    targets = ClassTargets(vector_CD.numpy(), np.array([0, 0, 0, 1, 1, 1]))
    matched = [{0: 1.0, 3: 1.0}, {5: 1.0}, {2: 1.0, 1: 0.25}]  # the first is a heron in both tasks
    target_BC = torch.from_numpy(target_matrix(np.array([0, 5, 2]), matched, targets.task_C))
    found = class_loss(image_ND, vector_CD, torch.from_numpy(targets.task_C), scale, target_BC)
    birds = torch.log_softmax(scale.exp() * image_ND @ official(backbone, BIRDS), 1)
    others = torch.log_softmax(scale.exp() * image_ND @ official(backbone, things), 1)
    expected = -(birds[0, 0] + others[0, 0] + others[1, 2] + 0.8 * birds[2, 2] + 0.2 * birds[2, 1]) / 3
    torch.testing.assert_close(found, expected)


def loaded(image: Image.Image, size: int) -> np.ndarray:
    """uint8 [3, size, size] of REACT's loader: Pillow's RGB, then CLIP's transform."""
    transform = v2.Compose([v2.Resize(size, v2.InterpolationMode.BICUBIC), v2.CenterCrop(size)])
    return np.asarray(transform(image.convert("RGB"))).transpose(2, 0, 1)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo() -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((60, 44), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("mode", "format"),
    [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("L", "PNG"), ("P", "PNG")],
)
def test_pixels_are_those_of_react_s_loader_bit_for_bit(mode: str, format: str) -> None:
    data = encoded(photo().convert(mode), format)
    assert np.array_equal(decode_rgb(data, 32), loaded(Image.open(io.BytesIO(data)), 32))


def test_orientation_and_transparency_are_applied_where_react_s_loader_ignores_them() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = encoded(photo(), "JPEG", exif=exif.tobytes())
    image = Image.open(io.BytesIO(sideways))
    upright = ImageOps.exif_transpose(image)
    assert upright is not None and np.array_equal(decode_rgb(sideways, 32), loaded(upright, 32))
    assert not np.array_equal(decode_rgb(sideways, 32), loaded(image, 32))
    layer = photo().convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").resize(layer.size))
    clear = encoded(layer, "PNG")
    on_white = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    assert np.array_equal(decode_rgb(clear, 32), loaded(on_white, 32))
    assert not np.array_equal(decode_rgb(clear, 32), loaded(Image.open(io.BytesIO(clear)), 32))
