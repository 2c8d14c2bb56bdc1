"""Models that lie in a folder are those that open_clip loads from it: the same weights, the same preprocessing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from react_ray.clip.architecture import embedding_dim
from react_ray.clip.backbone import Backbone, check_weights, transforms
from react_ray.clip.config import BackboneConfig
from react_ray.clip.identity import CONFIG_FILE, short_name
from react_ray.clip.weights import weights_sha256
from react_ray.errors import BackboneError, ReactRayError
from react_ray.gated.load import load_backbone
from react_ray.storage import open_storage
from tests.support.tiny_clip import tiny_backbone, tiny_config

PREPROCESS = {"mean": [0.11, 0.22, 0.33], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "resize_mode": "squash"}

BRACKETS = str.maketrans("[]", "()")  # lists of a JSON are tuples in our own


def make_folder(folder: Path, file: str = "open_clip_model.safetensors", **preprocess: Any) -> dict[str, Tensor]:
    """Writes a model folder as open_clip and the hub have it, and returns the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, Tensor] = dict(tiny_backbone(folder, vocab_size=8, seed=11).model.state_dict())
    content = json.loads((folder / "tiny.json").read_text())
    content["preprocess_cfg"] = PREPROCESS | preprocess
    (folder / "tiny.json").unlink()
    (folder / CONFIG_FILE).write_text(json.dumps(content))
    if file.endswith(".safetensors"):
        save_file(state, folder / file)
    elif file:
        torch.save({"state_dict": state, "epoch": 3}, folder / file)
    return state


def load(name: str, **config: Any) -> Backbone:
    return load_backbone(BackboneConfig(name=name, **config))


def same_as_open_clip(backbone: Backbone, folder: Path) -> bool:
    theirs, _, val = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    state = {
        name: value.reshape(backbone.model.state_dict()[name].shape) for name, value in theirs.state_dict().items()
    }
    assert [str(step).translate(BRACKETS) for step in val.transforms] == [
        str(step).translate(BRACKETS) for step in transforms(backbone)[1].transforms
    ]
    return backbone.weights_sha256 == weights_sha256(state)


@pytest.mark.parametrize(
    "file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "epoch_3.pth"]
)
def test_a_folder_gives_its_own_weights_and_preprocessing(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "my model"
    make_folder(folder, file)
    configs = [
        BackboneConfig(name=f"local-dir:{folder}"),
        BackboneConfig(name=str(folder)),
        BackboneConfig(name=f"{folder}/"),
        BackboneConfig(name=folder.as_uri().replace("%20", " ")),
        BackboneConfig(name=str(folder / CONFIG_FILE)),
        BackboneConfig(pretrained=str(folder)),
        BackboneConfig(pretrained=f"local-dir:{folder}"),
        BackboneConfig(pretrained=str(folder / CONFIG_FILE)),
        BackboneConfig(name=str(folder), pretrained=str(folder)),
        BackboneConfig(name=str(folder), pretrained=str(folder / file)),
        BackboneConfig(name=tiny_config(tmp_path, text={"vocab_size": 8}), pretrained=str(folder)),
    ]
    for config in configs:
        backbone = load_backbone(config)
        assert same_as_open_clip(backbone, folder), config
        assert (backbone.crop, backbone.interpolation, backbone.mean[0]) == ("squash", "bilinear", 0.11), config
        assert embedding_dim(config) == 16
        check_weights(config)


def test_what_a_recipe_sets_stands_above_the_folder(tmp_path: Path) -> None:
    make_folder(tmp_path / "m", mean=0.25, std=None)
    assert load(str(tmp_path / "m")).mean == (0.25,) * 3
    assert load(str(tmp_path / "m")).std == open_clip.OPENAI_DATASET_STD
    assert load(str(tmp_path / "m"), mean=[0.1, 0.2, 0.3]).mean == (0.1, 0.2, 0.3)


def test_the_caches_of_the_hub_are_folders_too(tmp_path: Path) -> None:
    """Snapshots hold links to blobs, which have no suffix."""
    repository, blobs = tmp_path / "models--me--clip", tmp_path / "models--me--clip/blobs"
    make_folder(blobs, "open_clip_pytorch_model.bin")
    snapshot = repository / "snapshots/0123abc"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(blobs.iterdir())):
        file.rename(blobs / f"{number:040d}")
        os.symlink(f"../../blobs/{number:040d}", snapshot / file.name)
    for named in (snapshot, repository, repository / "snapshots"):
        assert same_as_open_clip(load(str(named)), snapshot)
    (repository / "snapshots/ffff").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0123abc")
    assert same_as_open_clip(load(str(repository)), snapshot)
    (blobs / f"{1:040d}").unlink()
    with pytest.raises(ReactRayError, match="no such file"):
        load(str(snapshot))


def test_a_folder_may_lie_in_object_storage(tmp_path: Path, s3: str) -> None:
    state = make_folder(tmp_path / "m", "open_clip_pytorch_model.bin")
    place = open_storage(f"{s3}/{tmp_path.name}/m")
    for file in (tmp_path / "m").iterdir():
        place.write(file.name, file.read_bytes())
    place.write("checkpoints/1.bin", b"not of this folder")
    for config in (
        BackboneConfig(name=place.uri),
        BackboneConfig(name=f"local-dir:{place.uri}/"),
        BackboneConfig(pretrained=place.uri),
        BackboneConfig(name=f"{place.uri}/{CONFIG_FILE}"),
    ):
        backbone = load_backbone(config)
        assert (backbone.weights_sha256, backbone.crop) == (weights_sha256(state), "squash")
    with pytest.raises(BackboneError, match="there is no such folder; name one that holds"):
        load(f"{place.uri}x")


def test_a_folder_of_weights_alone_goes_with_a_name(tmp_path: Path) -> None:
    state = make_folder(tmp_path / "m")
    (tmp_path / "m" / CONFIG_FILE).unlink()
    name = tiny_config(tmp_path, text={"vocab_size": 8})
    assert load(name, pretrained=str(tmp_path / "m")).weights_sha256 == weights_sha256(state)
    with pytest.raises(BackboneError, match=rf"no {CONFIG_FILE} in this folder; .*as backbone\.pretrained$"):
        load(str(tmp_path / "m"))


def test_of_several_weights_the_usual_names_come_first_and_others_are_asked_for(tmp_path: Path) -> None:
    state = make_folder(tmp_path / "m")
    other = {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}
    save_file(other, tmp_path / "m/a.safetensors")
    torch.save(other, tmp_path / "m/open_clip_pytorch_model.bin")
    assert load(str(tmp_path / "m")).weights_sha256 == weights_sha256(state)
    (tmp_path / "m/open_clip_model.safetensors").unlink()
    (tmp_path / "m/open_clip_pytorch_model.bin").rename(tmp_path / "m/b.bin")
    with pytest.raises(BackboneError, match=r"several files of weights \(a\.safetensors, b\.bin\); set backbone\."):
        load(str(tmp_path / "m"))
    assert load(str(tmp_path / "m"), pretrained=str(tmp_path / "m/b.bin")).weights_sha256 == weights_sha256(other)


def test_weights_named_like_a_json_belong_to_it(tmp_path: Path) -> None:
    state = make_folder(tmp_path, "heron.safetensors")
    (tmp_path / CONFIG_FILE).rename(tmp_path / "heron.json")
    save_file({"x": torch.zeros(1)}, tmp_path / "egret.safetensors")
    assert load(str(tmp_path / "heron.json")).weights_sha256 == weights_sha256(state)


def test_weights_are_random_where_the_recipe_says_so_and_nowhere_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "bare", file="")
    make_folder(tmp_path / "whole")
    for config, told in (
        (
            BackboneConfig(),
            r"pretrained is empty, and ViT-B-32 alone has no weights; set it to openai, .* or to random$",
        ),
        (BackboneConfig(name=str(tmp_path / "bare")), "holds no file of weights; set .* or to random$"),
        (BackboneConfig(name=str(tmp_path / "bare" / CONFIG_FILE)), "holds no file of weights; set .* or to random$"),
        (BackboneConfig(pretrained=str(tmp_path / "bare")), "holds no file of weights; set .* or to random$"),
        (BackboneConfig(name=f"{tmp_path}/none"), "no such folder; name one"),
        (BackboneConfig(name=f"local-dir:{tmp_path}/none"), "no such folder; name one"),
        (BackboneConfig(name=f"local-dir:{tmp_path}"), f"no {CONFIG_FILE} in it; name a folder"),
        (BackboneConfig(pretrained="Random"), "neither a tag of ViT-B-32 nor"),
        (BackboneConfig(name="ViT-L-14", pretrained=str(tmp_path / "whole")), "another model .* leave the name out$"),
    ):
        for check in (load_backbone, check_weights):
            with pytest.raises(BackboneError, match=told) as raised:
                check(config)
            assert len(str(raised.value).splitlines()) == 1
    assert capsys.readouterr().err == ""
    asked = BackboneConfig(name=str(tmp_path / "whole"), pretrained="random")
    check_weights(asked)
    assert "has random weights, since the recipe asks" in capsys.readouterr().err
    assert load_backbone(asked).describe()["tag"] == "random"
    assert load_backbone(asked).weights_sha256 != load(str(tmp_path / "whole")).weights_sha256
    assert load_backbone(asked).mean == (0.11, 0.22, 0.33)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON"),
        ("[1]", "no model_cfg with embed_dim"),
        ('{"model_cfg": {"embed_dim": 16, "vision_cfg": [], "text_cfg": {}}}', "no model_cfg with embed_dim"),
        ('{"model_cfg": {"embed_dim": 16, "vision_cfg": {"colour": 1}, "text_cfg": {}}}', "cannot build .*colour"),
        ('{"model_cfg": null, "preprocess_cfg": {}}', "no model_cfg with embed_dim"),
        ("\xff", "is not UTF-8 text"),
    ],
)
def test_a_json_that_is_no_model_is_refused_in_one_line(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / CONFIG_FILE).write_text(content, encoding="latin-1")
    with pytest.raises(BackboneError, match=told) as raised:
        load(str(tmp_path), pretrained="random")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"mean": [0.5]}, "its mean is"),
        ({"std": [0.5, 0.0, 0.5]}, "its std is"),
        ({"mean": "grey"}, "its mean is"),
        ({"interpolation": "nearest"}, "interpolation=nearest; choose from"),
        ({"resize_mode": "stretch"}, "resize_mode=stretch"),
    ],
)
def test_a_preprocessing_that_cannot_be_meant_is_refused(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    make_folder(tmp_path / "m", **wrong)
    with pytest.raises(BackboneError, match=told):
        load(str(tmp_path / "m"))


def test_the_digest_follows_the_content_of_the_folder(tmp_path: Path) -> None:
    state = make_folder(tmp_path / "m")
    before = load(str(tmp_path / "m")).describe()
    save_file({name: value * 2 for name, value in state.items()}, tmp_path / "m/open_clip_model.safetensors")
    assert load(str(tmp_path / "m")).describe()["weights_sha256"] != before["weights_sha256"]


def test_people_are_shown_the_name_of_the_folder() -> None:
    names = ["local-dir:/a/heron", "/a/heron/", "/a/heron/open_clip_config.json", "s3://b/heron.json", "hf-hub:o/heron"]
    assert {short_name(BackboneConfig(name=name)) for name in names} == {"heron"}
