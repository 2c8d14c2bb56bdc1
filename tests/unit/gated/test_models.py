from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from react_ray.clip.architecture import empty_model
from react_ray.clip.config import BackboneConfig
from react_ray.clip.image_tower import image_blocks
from react_ray.clip.weights import weights_sha256, write_whole
from react_ray.errors import BackboneError
from react_ray.gated.attach import attach_gated_blocks, gated_layers
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.config import LAST_K_LAYERS
from react_ray.gated.load import load_backbone
from react_ray.gated.method import Method, freeze
from react_ray.gated.models import (
    RELEASED,
    check_size,
    create_model_and_transforms,
    get_tokenizer,
    list_pretrained,
    load_model,
)
from tests.support.tiny_clip import save_backbone, tiny_config


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A base, what was trained on it by two methods, and the whole customised model."""
    paths = {name: str(tmp_path / f"{name}.safetensors") for name in ("base", "gated", "text", "silent", "whole")}
    paths["name"] = tiny_config(tmp_path, text={"vocab_size": 8})
    save_backbone(load_backbone(BackboneConfig(name=paths["name"], pretrained="random"), seed=4).model, paths["base"])
    config = BackboneConfig(name=paths["name"], pretrained=paths["base"])
    methods: list[tuple[str, Method, bool]] = [
        ("gated", "gated-image", True),
        ("text", "locked-image", True),
        ("silent", "gated-image", False),
    ]
    for file, method, tells in methods:
        model = load_backbone(config.model_copy(update={"last_k_layers": 2 * (method == "gated-image")})).model
        for name in freeze(model, method):
            model.get_parameter(name).data.add_(0.01)
        info = {"backbone_config": config.model_dump()} if tells else {}
        write_whole(paths[file], gated_bytes(model, info))
        if file == "gated":
            save_backbone(model, paths["whole"], torch.float32)
    return paths


def test_a_delta_computes_as_it_did_while_it_was_trained(files: dict[str, str], tmp_path: Path) -> None:
    trained_on = BackboneConfig(
        name=files["name"], pretrained=files["base"], quick_gelu=True, mean=[0.1] * 3, std=[0.2] * 3
    )
    model = load_backbone(trained_on.model_copy(update={"last_k_layers": 2})).model
    freeze(model, "gated-image")
    path = str(tmp_path / "quick.safetensors")
    write_whole(path, gated_bytes(model, {"backbone_config": trained_on.model_dump()}))
    loaded = load_model(files["name"], path)
    images = torch.rand(2, 3, loaded.image_size, loaded.image_size)
    assert torch.equal(loaded.model.encode_image(images), model.eval().encode_image(images))
    assert not torch.equal(
        loaded.model.encode_image(images), load_model(files["name"], files["base"]).model.encode_image(images)
    )
    assert (loaded.mean, loaded.std) == ((0.1,) * 3, (0.2,) * 3)


def test_a_whole_model_computes_as_it_did_while_it_was_trained(files: dict[str, str], tmp_path: Path) -> None:
    trained_on = BackboneConfig(
        name=files["name"], pretrained=files["base"], quick_gelu=True, mean=[0.1] * 3, std=[0.2] * 3
    )
    model = load_backbone(trained_on).model
    freeze(model, "full")
    path = str(tmp_path / "whole.safetensors")
    write_whole(path, gated_bytes(model, {"backbone_config": trained_on.model_dump()}))
    Path(files["base"]).unlink()
    loaded = load_model(files["name"], path)
    images = torch.rand(2, 3, loaded.image_size, loaded.image_size)
    assert torch.equal(loaded.model.encode_image(images), model.encode_image(images))
    assert (loaded.mean, loaded.std) == ((0.1,) * 3, (0.2,) * 3)
    assert loaded.config.pretrained == path


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tag"), [("ViT-B-32", "openai"), ("ViT-B-32-quickgelu", "laion400m_e32")])
def test_the_activation_of_a_whole_model_is_that_of_the_tag_or_name_that_it_was_trained_on(
    tmp_path: Path, name: str, tag: str
) -> None:
    trained_on = BackboneConfig(name=name, pretrained=tag)
    path = str(tmp_path / "whole.safetensors")
    model = load_model("ViT-B-32", "random").model
    write_whole(
        path, gated_bytes(model, {"backbone_config": trained_on.model_dump()}, model.state_dict(), torch.float16)
    )
    loaded = load_model("ViT-B-32", path)
    assert type(image_blocks(loaded.model)[0].mlp.gelu).__name__ == "QuickGELU"
    assert loaded.model_cfg["quick_gelu"] is True


def test_a_delta_finds_its_base(files: dict[str, str]) -> None:
    told, given = (
        load_model(files["name"], files["gated"]),
        load_model(files["name"], files["silent"], base=files["base"]),
    )
    whole = load_model(files["name"], files["whole"])
    assert told.weights_sha256 == given.weights_sha256 == whole.weights_sha256
    assert gated_layers(told.model) == [1, 2]
    assert gated_layers(load_model(files["name"], files["text"]).model) == []
    with pytest.raises(BackboneError, match="pass base="):
        load_model(files["name"], files["silent"])


@pytest.mark.parametrize("method", ["gated-image", "locked-text"])
def test_a_delta_on_random_weights_makes_them_again(tmp_path: Path, method: Method) -> None:
    scratch = BackboneConfig(name=tiny_config(tmp_path, text={"vocab_size": 8}), pretrained="random")
    model = load_backbone(scratch.model_copy(update={"last_k_layers": 2 * (method == "gated-image")}), seed=3).model
    freeze(model, method)
    path, silent = (str(tmp_path / f"{name}.safetensors") for name in ("scratch", "silent"))
    write_whole(path, gated_bytes(model, {"backbone_config": scratch.model_dump(), "seed": 3}))
    write_whole(silent, gated_bytes(model, {"backbone_config": scratch.model_dump()}))
    expected = weights_sha256(model.state_dict())
    assert load_model(scratch.name, path).weights_sha256 == expected
    assert load_backbone(scratch.model_copy(update={"gated": path}), seed=8).weights_sha256 == expected
    with pytest.raises(BackboneError, match="pass base="):
        load_model(scratch.name, silent)


def test_model_and_transforms_take_a_picture(files: dict[str, str]) -> None:
    model, train, val = create_model_and_transforms(files["name"], files["gated"])
    picture = Image.new("RGB", (50, 40), (10, 200, 30))
    batch = torch.stack([train(picture), val(picture)])
    assert model.encode_image(batch).shape == (2, 16) and not model.training


def test_the_tokenizer_of_a_react_model_is_that_of_its_base() -> None:
    assert torch.equal(get_tokenizer("react_ViT-B-32")(["a heron"]), get_tokenizer("ViT-B-32")(["a heron"]))


def test_released_files_are_known_with_their_traps() -> None:
    assert len(RELEASED) == len(set(list_pretrained())) == len({r.file for r in RELEASED}) == 13
    assert all(r.model.startswith("react_") == ("gated-image" in r.file) for r in RELEASED)
    assert {r.file for r in RELEASED if r.centred} == {
        "openclip-vit-large-14-gated-image.pt",
        "openclip-vit-large-14-gated-image-laion2b.pt",
    }
    assert all(r.quick_gelu == ("laion2b_ret" not in r.tag) for r in RELEASED)


def test_a_copy_of_a_released_file_is_known_by_its_name(files: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "clip-vit-base-32-locked-text.pt"
    base = load_model(files["name"], files["base"])
    torch.save(base.model.state_dict(), path)
    found = load_model(files["name"], str(path))
    assert type(image_blocks(found.model)[0].mlp.gelu).__name__ == "QuickGELU"
    assert found.weights_sha256 == base.weights_sha256


def test_names_that_cannot_be_meant_say_what_was() -> None:
    with pytest.raises(BackboneError, match="did you mean react_ViT-B-32"):
        load_model("react_ViT-B32")
    with pytest.raises(BackboneError, match=r"its tags are react_clip_ret_laion400m$"):
        load_model("react_ViT-B-16", "react_clip_ret_laion2b")
    with pytest.raises(BackboneError, match=r"choose from .*react_ViT-bigG-14"):
        load_model("RN50", "react_clip_ret_laion400m")


# backbone, k, image tower, text tower, one gated block, trainable, total: as published, H/14 as computed
SIZES = [
    ("ViT-B-32", 6, 87_849_216, 63_428_096, 7_087_874, 42_527_245, 193_804_557),
    ("ViT-B-16", 6, 86_192_640, 63_428_096, 7_087_874, 42_527_245, 192_147_981),
    ("ViT-L-14", 6, 303_966_208, 123_650_304, 12_596_226, 75_577_357, 503_193_869),
    ("ViT-H-14", 6, 632_076_800, 354_032_640, 19_677_442, 118_064_653, 1_104_174_093),
    ("ViT-bigG-14", 12, 1_844_907_264, 694_659_840, 33_248_386, 398_980_633, 2_938_547_737),
]


@pytest.mark.parametrize(("name", "last_k", "image", "text", "block", "trainable", "total"), SIZES)
def test_backbones_have_the_published_numbers_of_parameters(
    name: str, last_k: int, image: int, text: int, block: int, trainable: int, total: int
) -> None:
    model = empty_model(name)
    assert sum(p.numel() for p in model.visual.parameters()) == image  # type: ignore[union-attr]
    assert sum(p.numel() for p in model.parameters()) == image + text + 1
    names = len(model.state_dict())
    assert LAST_K_LAYERS[name] == last_k
    with torch.device("meta"):
        attach_gated_blocks(model, last_k)
    assert len(model.state_dict()) == names + 14 * last_k
    assert sum(p.numel() for p in image_blocks(model)[-1].gated_attn_block.parameters()) == block
    freeze(model, "gated-image")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable == last_k * block + 1
    assert sum(p.numel() for p in model.parameters()) == total
    check_size(f"react_{name}", model)
    with pytest.raises(BackboneError, match="parameters instead of"):
        check_size("react_ViT-B-32" if name != "ViT-B-32" else "react_ViT-B-16", model)


@pytest.mark.parametrize(("name", "last_k"), [("ViT-B-32", 3), ("ViT-bigG-14", 24)])
def test_a_model_with_more_or_fewer_blocks_than_published_is_still_of_its_name(name: str, last_k: int) -> None:
    model = empty_model(name)
    with torch.device("meta"):
        attach_gated_blocks(model, last_k)
    check_size(f"react_{name}", model)
    with pytest.raises(BackboneError, match="parameters instead of"):
        check_size("react_ViT-L-14", model)


def test_the_gated_mlp_of_bigg_is_narrower_than_its_hosts() -> None:
    model = empty_model("ViT-bigG-14")
    with torch.device("meta"):
        attach_gated_blocks(model, 1)
    last: Any = image_blocks(model)[-1]
    assert (last.mlp.c_fc.out_features, last.gated_attn_block.mlp.c_fc.out_features) == (8192, 6656)


@pytest.mark.slow
def test_a_b32_loads_plain_weights_below_new_blocks(tmp_path: Path) -> None:
    backbone = load_model("react_ViT-B-32", "random")
    save_backbone(backbone.model, str(tmp_path / "plain.safetensors"))
    assert gated_layers(load_model("react_ViT-B-32", str(tmp_path / "plain.safetensors")).model) == list(range(6, 12))
