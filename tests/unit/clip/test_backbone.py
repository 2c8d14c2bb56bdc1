from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from react_ray.clip.backbone import transforms
from react_ray.clip.config import BackboneConfig
from react_ray.clip.weights import weights_sha256
from react_ray.errors import BackboneError, StorageError
from react_ray.gated.attach import gated_layers
from react_ray.gated.load import load_backbone
from tests.support.tiny_clip import MEAN, STD, save_backbone, tiny_backbone, tiny_config


def load(folder: Path, **config: object) -> BackboneConfig:
    name = tiny_config(folder, text={"vocab_size": 8})
    return BackboneConfig.model_validate({"name": name, "pretrained": "random", **config})


def test_a_json_gives_the_model_that_it_describes(tmp_path: Path) -> None:
    backbone = tiny_backbone(tmp_path)
    assert (backbone.image_size, backbone.dim, backbone.context_length) == (32, 16, 16)
    assert backbone.mean == MEAN and backbone.std == STD
    assert backbone.tokenizer(["a heron", "an egret"]).shape == (2, 16)
    assert backbone.model.logit_scale.shape == (1,)
    assert backbone.describe()["weights_sha256"] == weights_sha256(backbone.model.state_dict())
    assert json.loads(json.dumps(backbone.describe())) == backbone.describe()


def test_random_weights_come_from_the_seed_alone(tmp_path: Path) -> None:
    digests = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        digests.append(load_backbone(load(tmp_path, last_k_layers=1), seed=seed).weights_sha256)
        assert torch.equal(before, torch.get_rng_state())
    assert digests[0] == digests[1] != digests[2]


def test_normalize_is_mean_and_std_of_the_pixels(tmp_path: Path) -> None:
    backbone = tiny_backbone(tmp_path, vocab_size=8)
    image = torch.randint(0, 256, (2, 3, 32, 32)).to(torch.uint8)
    expected = (image / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(backbone.normalize(image), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="resize them first"):
        backbone.normalize(image[..., :16])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_saved_backbone_comes_back_rounded_once(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8, last_k_layers=1).model
    first, second = str(tmp_path / "one.safetensors"), str(tmp_path / "two.safetensors")
    save_backbone(model, first, dtype)
    assert load_file(first)["logit_scale"].ndim == 0
    restored = load_backbone(load(tmp_path, pretrained=first), seed=5).model
    assert gated_layers(restored) == [2]
    for name, value in model.state_dict().items():
        assert torch.equal(restored.state_dict()[name], value.to(dtype).float()), name
    save_backbone(restored, second, dtype)
    assert Path(first).read_bytes() == Path(second).read_bytes()


PREFIXES = ["module.", "_orig_mod.", "_forward_module.", "model.", "module._orig_mod.", "_orig_mod.module.model."]
PREFIXES += ["_forward_module.module.", "state_dict.model._fsdp_wrapped_module."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("file", ["epoch_1.pt", "epoch_1.safetensors", "wrapped.pt", "nested.bin", "named_wrongly.bin"])
def test_training_checkpoints_are_unwrapped(tmp_path: Path, file: str, prefix: str) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8).model
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    path = str(tmp_path / file)
    if file in ("epoch_1.safetensors", "named_wrongly.bin"):
        save_file(state, path)
    else:
        wrapped = {"epoch_1.pt": state, "nested.bin": {"model": {"state_dict": state}, "args": {}}}
        torch.save(wrapped.get(file, {"epoch": 1, "state_dict": state, "optimizer": {}}), path)
    restored = load_backbone(load(tmp_path, pretrained=path), seed=3)
    assert restored.weights_sha256 == weights_sha256(model.state_dict())


def test_a_tower_that_was_wrapped_by_itself_is_unwrapped(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8).model
    state = {name.replace("visual.", "visual._orig_mod."): value for name, value in model.state_dict().items()}
    path = str(tmp_path / "compiled.safetensors")
    save_file(state, path)
    assert load_backbone(load(tmp_path, pretrained=path)).weights_sha256 == weights_sha256(model.state_dict())
    save_file(state | {"visual.proj": state["visual._orig_mod.proj"].clone()}, path)
    with pytest.raises(BackboneError, match="one name in and outside of a wrapper; save one state dict"):
        load_backbone(load(tmp_path, pretrained=path))


def test_weights_of_another_model_are_refused_by_key_and_shape(tmp_path: Path) -> None:
    path = str(tmp_path / "other.safetensors")
    save_backbone(tiny_backbone(tmp_path, {"patch_size": 16}, vocab_size=8).model, path)
    with pytest.raises(BackboneError, match=r"visual.conv1.weight is \[32, 3, 16, 16\], the model has \[32, 3, 8, 8\]"):
        load_backbone(load(tmp_path, pretrained=path))
    save_backbone(tiny_backbone(tmp_path, {"layers": 2}, vocab_size=8).model, path)
    with pytest.raises(BackboneError, match=r"resblocks.2.attn.in_proj_bias is missing.* and \d+ more; name the model"):
        load_backbone(load(tmp_path, pretrained=path))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": Path("x")}, path)
    with pytest.raises(BackboneError, match=r"no checkpoint of plain tensors.*\.safetensors"):
        load_backbone(load(tmp_path, pretrained=str(path)))
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(BackboneError, match="plain tensors"):
        load_backbone(load(tmp_path, pretrained=str(path)))
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(BackboneError, match="not a safetensors file"):
        load_backbone(load(tmp_path, pretrained=str(tmp_path / "bad.safetensors")))


def test_a_model_without_an_image_tower_is_refused(tmp_path: Path) -> None:
    path = Path(tiny_config(tmp_path))
    path.write_text(path.read_text().replace("vision_cfg", "audio_cfg"))
    with pytest.raises(BackboneError, match="no model_cfg with embed_dim, vision_cfg, text_cfg"):
        load_backbone(BackboneConfig(name=str(path)))
    tiny_config(tmp_path)
    path.write_text(path.read_text().replace('"shortest"', '"longest"'))
    with pytest.raises(BackboneError, match="pads its images"):
        load_backbone(BackboneConfig(name=str(path)))


def test_what_cannot_be_meant_says_what_was(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="did you mean ViT-B-32"):
        load_backbone(BackboneConfig(name="ViT-B32"))
    with pytest.raises(BackboneError, match=r"neither a tag of ViT-B-32 nor a file.*laion400m_e32"):
        load_backbone(BackboneConfig(name="ViT-B-32", pretrained="laion400m_e3"))
    with pytest.raises(BackboneError, match="CoCa"):
        load_backbone(BackboneConfig(name="coca_ViT-B-32"))
    with pytest.raises(StorageError):
        load_backbone(load(tmp_path, pretrained=str(tmp_path / "none.pt")))
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(BackboneError, match="no model_cfg"):
        load_backbone(BackboneConfig(name=str(tmp_path / "empty.json")))


def test_transforms_normalise_with_the_models_own_numbers(tmp_path: Path) -> None:
    from PIL import Image

    backbone = tiny_backbone(tmp_path, vocab_size=8, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    train, val = transforms(backbone)
    white = Image.new("RGB", (40, 48), (255, 255, 255))
    assert torch.equal(val(white), torch.ones(3, 32, 32))
    assert train(white).shape == (3, 32, 32)


def test_quick_gelu_changes_the_activation_and_nothing_else(tmp_path: Path) -> None:
    plain, quick = (tiny_backbone(tmp_path, vocab_size=8, quick_gelu=flag) for flag in (False, True))
    assert plain.weights_sha256 == quick.weights_sha256
    assert type(quick.model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
