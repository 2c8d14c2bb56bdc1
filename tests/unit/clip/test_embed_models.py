"""Vectors equal open_clip's own for models of their real size, with the same random weights and uint8 pixels."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from react_ray.clip.backbone import Backbone
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.image_tower import image_blocks
from react_ray.gated.attach import gated_layers
from react_ray.gated.load import load_backbone

TEXTS = ["a heron", "", "a great egret in the reeds at dawn, photographed from a boat"]


def spec_of(name: str) -> dict[str, Any]:
    """open_clip's configuration; a tokenizer that would have to be downloaded gives way to its own."""
    spec = open_clip.get_model_config(name)
    assert spec is not None
    if spec["text_cfg"].pop("hf_tokenizer_name", None):
        spec["text_cfg"] |= {"vocab_size": 49408}
        spec["text_cfg"].pop("tokenizer_kwargs", None)
    spec["vision_cfg"] |= {"timm_model_pretrained": False} if "timm_model_name" in spec["vision_cfg"] else {}
    return spec


def load(folder: Path, name: str, preprocess: dict[str, Any], **config: Any) -> Backbone:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"model_cfg": spec_of(name), "preprocess_cfg": preprocess}))
    return load_backbone(BackboneConfig(name=str(path), pretrained="random", **config))


def reference(
    name: str, backbone: Backbone, preprocess: dict[str, Any], pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """open_clip's model with these weights, on these pixels and texts."""
    spec = spec_of(name)
    make = open_clip.CustomTextCLIP if spec.pop("custom_text", False) else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        model: Any = make(**spec, nonscalar_logit_scale=True).eval()
    model.load_state_dict(backbone.model.state_dict())
    transform = image_transform_v2(PreprocessCfg(size=backbone.image_size, **preprocess), is_train=False)
    with torch.inference_mode():
        image_BCHW = torch.stack([transform(Image.fromarray(image)) for image in pixels])
        text_BT = backbone.tokenizer(TEXTS)
        return model.encode_image(image_BCHW, normalize=True).numpy(), model.encode_text(
            text_BT, normalize=True
        ).numpy()


def equal(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    stored = found.astype(np.float16).astype(np.float32)
    assert ((stored * expected).sum(1) / np.linalg.norm(stored, axis=1) >= 0.9999).all()


CLIP = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
SIGLIP = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
MODELS = {"ViT-B-32": CLIP, "ViT-B-16": CLIP, "ViT-B-16-SigLIP": SIGLIP}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "ViT-B-16")) for name in MODELS]
)
def test_vectors_equal_open_clips_own(name: str, tmp_path: Path) -> None:
    backbone = load(tmp_path, name, MODELS[name])
    assert (backbone.crop == "squash") == (name == "ViT-B-16-SigLIP")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    image_ND, text_ND = reference(name, backbone, MODELS[name], pixels)
    embedder = Embedder(backbone, 2, "cpu")
    equal(embedder.image_vectors(pixels.transpose(0, 3, 1, 2)), image_ND)
    equal(embedder.text_vectors(TEXTS), text_ND)
    gc.collect()  # 0.6 GB each


def test_vectors_of_a_gated_model_equal_open_clips_own_pass_through_it(tmp_path: Path) -> None:
    backbone = load(tmp_path, "ViT-B-32", CLIP, last_k_layers=6)
    assert gated_layers(backbone.model) == [6, 7, 8, 9, 10, 11]
    for host in image_blocks(backbone.model)[6:]:
        for gate in ("alpha_attn", "alpha_dense"):  # gates that are shut would hide the blocks
            getattr(host.gated_attn_block, gate).data.fill_(0.7)
    images_NCHW = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), dtype=np.uint8)
    model: Any = backbone.model
    with torch.inference_mode():
        expected = model.encode_image(backbone.normalize(torch.from_numpy(images_NCHW)), normalize=True).numpy()
    found = Embedder(backbone, 2, "cpu").image_vectors(images_NCHW)
    equal(found, expected)
    for host in image_blocks(backbone.model)[6:]:
        host.gated_attn_block.alpha_attn.data.zero_()
    assert np.abs(Embedder(backbone, 2, "cpu").image_vectors(images_NCHW) - found).max() > 1e-3, (
        "the blocks did nothing"
    )
