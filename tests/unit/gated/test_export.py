from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pyarrow as pa
import pytest
import torch
from torch import nn
from torchvision.transforms.functional import to_pil_image

from react_ray.clip.backbone import Backbone
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask
from react_ray.clip.weights import read_weights, write_whole
from react_ray.draft import create
from react_ray.errors import ConfigError
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.export import export_model
from react_ray.gated.load import load_backbone, load_customised
from react_ray.gated.method import Method, freeze
from react_ray.gated.models import create_model_and_transforms, get_tokenizer
from react_ray.kinds import MODEL, PREDICTIONS, ModelFacts, PredictionsFacts
from tests.support.tiny_clip import save_backbone, tiny_config

Files = dict[str, str]


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def made(
    folder: Path, method: Method = "gated-image", vision: dict[str, Any] | None = None, vocab_size: int = 64
) -> Files:
    """A backbone in half precision, as released ones, and what was trained on it: the files' paths."""
    name = tiny_config(folder, vision, {"vocab_size": vocab_size})
    base, gated = str(folder / "base.safetensors"), str(folder / "gated.safetensors")
    save_backbone(load_backbone(BackboneConfig(name=name, pretrained="random"), seed=4).model, base)
    config = BackboneConfig(name=name, pretrained=base)
    last_k = 2 if method == "gated-image" else 0
    model = load_backbone(config.model_copy(update={"last_k_layers": last_k}), seed=1).model
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in map(model.get_parameter, freeze(model, method)):
            parameter.add_(0.2 * torch.rand(parameter.shape, generator=generator) + 0.1)
    write_whole(gated, gated_bytes(model, {"backbone_config": config.model_dump()}))
    return {"name": name, "base": base, "gated": gated, "folder": str(folder)}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return made(tmp_path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_released_file_goes_in_and_comes_out_bit_for_bit(files: Files, suffix: str) -> None:
    first, second = (str(Path(files["folder"], f"{name}{suffix}")) for name in ("first", "second"))
    export_model(files["gated"], first, "official")
    released = read_weights(first)
    assert all(value.dtype == torch.float16 for value in released.values())
    assert released["logit_scale"].ndim == 0
    assert sum(".gated_attn_block." in name for name in released) == 2 * 14
    assert all(value.ndim == 0 for name, value in released.items() if "alpha" in name)
    backbone = load_backbone(BackboneConfig(name=files["name"], pretrained=first))
    save_backbone(backbone.model, str(Path(files["folder"], "again.safetensors")))
    again = read_weights(str(Path(files["folder"], "again.safetensors")))
    assert again.keys() == released.keys()
    assert all(torch.equal(again[name].view(torch.int16), value.view(torch.int16)) for name, value in released.items())
    write_whole(
        second_gated := str(Path(files["folder"], "whole.safetensors")),
        gated_bytes(
            _all_trains(backbone.model),
            {"backbone_config": BackboneConfig(name=files["name"], pretrained=first).model_dump()},
        ),
    )
    export_model(second_gated, second, "official")
    if suffix == ".safetensors":
        assert Path(first).read_bytes() == Path(second).read_bytes()
    else:
        assert all(torch.equal(value, read_weights(second)[name]) for name, value in released.items())


def _all_trains(model: nn.Module) -> nn.Module:
    freeze(model, "full")
    return model


@pytest.mark.parametrize("vision", [{}, {"mlp_ratio": 4.9231}, {"no_ln_pre": True, "layers": 2}])
def test_plain_open_clip_loads_a_gated_model_and_gives_its_features(tmp_path: Path, vision: dict[str, Any]) -> None:
    files = made(tmp_path, vision=vision)
    folder = str(tmp_path / "portable")
    export_model(files["gated"], folder, "open_clip", dtype="fp32")
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    ours = load_customised(files["gated"]).model
    expected, found = ours.encode_image(images()), theirs.eval().encode_image(images())  # type: ignore[operator]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    base = load_backbone(BackboneConfig(name=files["name"], pretrained=files["base"])).model
    assert (base.encode_image(images()) - expected).abs().max() > 100 * (found - expected).abs().max()  # type: ignore[operator]
    assert list(preprocess.transforms[-1].mean) == [0.5, 0.4, 0.3]


def test_the_model_works_in_open_clips_own_zero_shot_code(tmp_path: Path) -> None:
    files = made(tmp_path, vocab_size=49408)
    names, templates = ["heron", "egret", "bittern"], ["a photo of a {}.", "the {} here."]
    model, _, _ = create_model_and_transforms(files["name"], files["gated"])
    tokenizer = get_tokenizer(files["name"])
    head = open_clip.build_zero_shot_classifier(
        model, tokenizer, names, [lambda c, t=t: t.format(c) for t in templates]
    )
    folder = str(tmp_path / "portable")
    export_model(files["gated"], folder, "open_clip", dtype="fp32")
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    their_head = open_clip.build_zero_shot_classifier(
        theirs.eval(),
        open_clip.get_tokenizer(f"local-dir:{folder}"),
        names,
        [lambda c, t=t: t.format(c) for t in templates],
    )
    assert head.shape == (16, 3)
    torch.testing.assert_close(head, their_head, atol=1e-5, rtol=1e-5)
    scores = [m.encode_image(images(), normalize=True) @ h for m, h in ((model, head), (theirs, their_head))]
    torch.testing.assert_close(*scores, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["gated-image", "locked-text", "full"])
def test_wise_ft_goes_from_the_backbone_to_the_model(tmp_path: Path, method: Method) -> None:
    files = made(tmp_path, method)
    base = load_backbone(BackboneConfig(name=files["name"], pretrained=files["base"])).model
    trained = load_customised(files["gated"]).model
    ends = {weight: load_customised(files["gated"], weight).model for weight in (0.0, 0.5, 1.0)}
    assert torch.equal(ends[0.0].encode_image(images()), base.encode_image(images()))  # type: ignore[operator]
    assert torch.equal(ends[1.0].encode_image(images()), trained.encode_image(images()))  # type: ignore[operator]
    middle, first, last = (m.state_dict() for m in (ends[0.5], base, trained))
    shared = [name for name in middle if "gated_attn_block" not in name]
    for name in shared:
        torch.testing.assert_close(middle[name], (first[name] + last[name]) / 2)
    for name in set(middle) - set(shared):
        if "alpha" in name:
            torch.testing.assert_close(torch.tanh(middle[name]), torch.tanh(last[name]) / 2)
        else:
            assert torch.equal(middle[name], last[name])


@pytest.mark.parametrize("method", ["gated-image", "full"])
def test_a_backbone_of_random_weights_is_that_of_the_seed_in_the_file(tmp_path: Path, method: Method) -> None:
    scratch = BackboneConfig(name=tiny_config(tmp_path, text={"vocab_size": 8}), pretrained="random")
    base = load_backbone(scratch, seed=3).model
    model = load_backbone(scratch.model_copy(update={"last_k_layers": 2 * (method == "gated-image")}), seed=3).model
    for name in freeze(model, method):
        model.get_parameter(name).data.add_(0.1)
    told, silent = (str(tmp_path / f"{name}.safetensors") for name in ("told", "silent"))
    write_whole(told, gated_bytes(model, {"backbone_config": scratch.model_dump(), "seed": 3}))
    write_whole(silent, gated_bytes(model, {"backbone_config": scratch.model_dump()}))
    for weight, expected in ((1.0, model), (0.0, base)):
        found = load_customised(told, weight).model
        assert torch.equal(found.encode_image(images()), expected.encode_image(images()))  # type: ignore[operator]
    if method == "full":
        with pytest.raises(ConfigError, match="a seed that it does not say"):
            load_customised(silent, 0.5)


def test_what_cannot_be_meant_is_said(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose official or open_clip"):
        export_model(files["gated"], str(tmp_path / "x.pt"), "hf")
    with pytest.raises(ConfigError, match=r"end it with \.pt or \.safetensors"):
        export_model(files["gated"], str(tmp_path / "folder"), "official")
    with pytest.raises(ConfigError, match=r"choose one in \[0, 1\]"):
        export_model(files["gated"], str(tmp_path / "x.pt"), "official", wise_ft=1.5)
    with pytest.raises(ConfigError, match="does not say which backbone"):
        export_model(files["base"], str(tmp_path / "x.pt"), "official")
    assert not (tmp_path / "x.pt").exists()


def test_the_card_has_the_scores_of_the_weights_beside_it_and_no_others(files: Files, tmp_path: Path) -> None:
    model = create(str(tmp_path / "run/model"), MODEL, {}, {}, 1)
    card = {"scores": [{"value": 0.1}]}
    model.commit_files(
        0,
        {"gated.safetensors": Path(files["gated"]).read_bytes(), "model_card.json": json.dumps(card).encode()},
        0.0,
        1,
    )
    facts = ModelFacts({}, "gated-image")
    sealed = model.seal(facts)

    def scores_of_export(wise_ft: float) -> list[float]:
        export_model(model.uri, str(tmp_path / "x.safetensors"), wise_ft=wise_ft)
        written = json.loads((tmp_path / "x.model_card.json").read_text())
        assert written["wise_ft"] == wise_ft
        return [score["value"] for score in written["scores"]]

    assert scores_of_export(1.0) == [0.1]
    evaluated = create(str(tmp_path / "run/scores"), PREDICTIONS, {"wise_ft": 0.5}, {"model": sealed}, 1)
    evaluated.commit(0, pa.table({"row": [0]}), 0.0)
    evaluated.seal(PredictionsFacts([{"value": 0.2}]))
    assert [scores_of_export(weight) for weight in (0.0, 0.5, 1.0)] == [[], [0.2], [0.1]]
    model.reopen().recommit(0, pa.table({"row": [1]}), 0.0)
    model.reopen().seal(facts)
    assert scores_of_export(0.5) == []


def test_the_folder_says_how_images_are_normalised(files: Files, tmp_path: Path) -> None:
    export_model(files["gated"], str(tmp_path / "portable"), "open_clip")
    config = json.loads((tmp_path / "portable/open_clip_config.json").read_text())
    assert config["preprocess_cfg"]["mean"] == [0.5, 0.4, 0.3]
    assert config["model_cfg"]["vision_cfg"]["layers"] == 5


def test_a_backbone_knows_its_configuration(files: Files) -> None:
    backbone: Backbone = load_backbone(BackboneConfig(name=files["name"], pretrained="random", quick_gelu=True))
    assert backbone.model_cfg["quick_gelu"] is True


@pytest.mark.slow
def test_clip_benchmark_classifies_alike_with_our_model_and_with_the_exported_folder(tmp_path: Path) -> None:
    """All of CLIP_benchmark's code that meets a model; what it makes of the logits is not ours."""
    theirs = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    from clip_benchmark.models import load_clip

    files = made(tmp_path, vocab_size=49408)
    export_model(files["gated"], str(tmp_path / "folder"), "open_clip", dtype="fp32")
    names, templates = ["heron", "egret", "ibis"], ["a photo of a {}.", "the {}"]
    model, _, transform = create_model_and_transforms(files["name"], files["gated"])
    ours = model, transform, get_tokenizer(files["name"])
    exported = load_clip("open_clip", f"local-dir:{tmp_path / 'folder'}", "none", None, "cpu")
    pictures = [to_pil_image(picture) for picture in images(8).sigmoid()]
    found = []
    for each, preprocess, tokenizer in (ours, exported):
        classifier = theirs.zero_shot_classifier(
            each.eval(), tokenizer, names, [t.format("{c}") for t in templates], "cpu", amp=False
        )
        loader = [(torch.stack([preprocess(picture) for picture in pictures]), torch.arange(8) % 3)]
        logits, _ = theirs.run_classification(each, classifier, loader, "cpu", amp=False)
        found.append((classifier, logits))
    torch.testing.assert_close(found[1], found[0], atol=1e-3, rtol=0)
    task = TargetTask("birds", tuple(names), tuple(templates), tuple((name,) for name in names))
    embedder = Embedder(load_customised(files["gated"]), 8, "cpu")
    torch.testing.assert_close(
        torch.from_numpy(embedder.zero_shot_classifier(task)).float().T, found[0][0], atol=1e-3, rtol=0
    )
