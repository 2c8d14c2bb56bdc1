"""The text tower in NumPy gives the vectors of the model, and refuses every tower that it cannot run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.text_tower import keep_text_tower, plain_shape, read_text_tower
from react_ray.gated.load import load_backbone
from tests.support.searchable import BASE, TEXT_SHA256, base_tower
from tests.support.tiny_clip import save_backbone, tiny_backbone, tiny_config

TEXTS = ["a heron by the water", "", "a", "two words " * 20, "<end_of_text> before the end", "naïve 東京 😀"]
UNIT = 1 / 1024  # half of the step between float16 numbers near 1


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/react_ray"


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).max())


def test_its_vectors_are_those_of_the_model() -> None:
    model = load_backbone(BASE)
    tower = base_tower()
    assert tower.sha256 == model.text_sha256 == TEXT_SHA256
    assert difference(tower.embed_texts(TEXTS), Embedder(model, 8, "cpu").embed_texts(TEXTS)) < UNIT


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("custom_text", [False, True])
def test_activation_and_a_tower_of_its_own(tmp_path: Path, quick_gelu: bool, custom_text: bool) -> None:
    name = tiny_config(tmp_path)
    spec = json.loads(Path(name).read_text())
    spec["model_cfg"] |= {"quick_gelu": quick_gelu, "custom_text": custom_text}
    Path(name).write_text(json.dumps(spec))
    model = load_backbone(BackboneConfig(name=name, pretrained="random"), seed=3)
    with torch.no_grad():  # as far from linear as trained activations are
        for parameter in model.model.parameters():
            parameter.mul_(3)
    save_backbone(model.model, f"{tmp_path}/w.safetensors", torch.float32)
    config = BackboneConfig(name=name, pretrained=f"{tmp_path}/w.safetensors")
    loaded = load_backbone(config)
    tower = read_text_tower(config, loaded.text_sha256)
    assert tower is not None and tower.shape.quick_gelu == quick_gelu
    assert difference(tower.embed_texts(TEXTS), Embedder(loaded, 8, "cpu").embed_texts(TEXTS)) < 2 * UNIT


def test_weights_of_another_model_are_not_taken() -> None:
    assert read_text_tower(BASE, "0" * 64) is None
    assert read_text_tower(BASE.model_copy(update={"pretrained": "random"}), TEXT_SHA256) is None
    assert read_text_tower(BackboneConfig(name="ViT-B-32", pretrained="openai"), TEXT_SHA256) is None
    gated = BASE.model_copy(update={"gated": "gated.safetensors"})
    assert read_text_tower(gated, "") is None and read_text_tower(gated, TEXT_SHA256) is not None


@pytest.mark.parametrize(
    "text",
    [
        {"hf_model_name": "x"},
        {"hf_tokenizer_name": "x"},
        {"tokenizer_kwargs": {"clean": "whitespace"}},
        {"pool_type": "last"},
        {"no_causal_mask": True},
        {"proj_bias": True},
        {"embed_cls": True},
        {"ls_init_value": 0.1},
        {"qk_norm": True},
    ],
)
def test_a_tower_that_is_built_otherwise_is_left_to_torch(text: dict[str, Any]) -> None:
    spec: dict[str, Any] = {"text_cfg": {"width": 32, "heads": 2, "layers": 2}}
    assert plain_shape(spec, False) is not None
    spec["text_cfg"] |= text
    assert plain_shape(spec, False) is None


def test_files_of_other_tensors_are_left_to_torch(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path)
    torch.save(model.model.state_dict(), tmp_path / "w.pt")
    for name in ("w.pt", "gone.safetensors", "tiny.json"):
        assert read_text_tower(BackboneConfig(name=model.config.name, pretrained=f"{tmp_path}/{name}"), "") is None


def test_a_kept_tower_is_found_again_by_the_model_and_its_sha256(tmp_path: Path, own_cache: Path) -> None:
    config = BackboneConfig(name=tiny_config(tmp_path), pretrained="random")
    model = load_backbone(config, seed=5)
    assert read_text_tower(config, model.text_sha256) is None
    keep_text_tower(model, config)
    tower = read_text_tower(config, model.text_sha256)
    assert tower is not None
    assert difference(tower.embed_texts(TEXTS), Embedder(model, 8, "cpu").embed_texts(TEXTS)) < UNIT
    [path] = own_cache.iterdir()
    path.write_bytes(path.read_bytes()[:-50])  # damaged: torch loads the model again, and keeps it again
    assert read_text_tower(config, model.text_sha256) is None
    assert read_text_tower(config, "0" * 64) is None


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path, own_cache: Path) -> None:
    own_cache.parent.mkdir()
    own_cache.write_text("a file where the folder would be")
    config = BackboneConfig(name=tiny_config(tmp_path), pretrained="random")
    keep_text_tower(load_backbone(config), config)
    assert own_cache.read_text() == "a file where the folder would be"
