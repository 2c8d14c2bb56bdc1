"""One model: what a run's table scores is what Python and `export model` give, for every arm and every weight."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from react_ray import kinds
from react_ray.artifact import Artifact, open_artifact
from react_ray.cli import main
from react_ray.clip.config import BackboneConfig
from react_ray.clip.prompts import load_tasks
from react_ray.clip.weights import read_weights
from react_ray.draft import create
from react_ray.errors import ArtifactMissing, BackboneError, ConfigError
from react_ray.evals.labelled import slices_of
from react_ray.evals.zeroshot import summarise
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.export import export_model
from react_ray.gated.load import load_backbone, load_customised
from react_ray.gated.method import freeze
from react_ray.gated.models import create_model_and_transforms, get_tokenizer, load_model
from react_ray.gated.trained import find_trained, is_trained, trained_models
from react_ray.kinds import MODEL, PREDICTIONS, HeadFacts, ModelFacts, PredictionsFacts
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.cluster import on_demand
from react_ray.stages.evaluating.classify_slice import Candidate, ClassifySlice, ReadSlice
from react_ray.stages.evaluating.features import embed_sets
from react_ray.stages.evaluating.scored_model import ScoredModel
from react_ray.training.head_file import head_bytes
from react_ray.training.run_head import export_head, load_head
from tests.support.small_run import small_recipe
from tests.support.tiny_clip import open_gates

WEIGHT = 0.7
HEAD = {"head": np.eye(3, 16, dtype=np.float32), "start": np.eye(3, 16, 3, dtype=np.float32)}


def trained(run: Path, arm: str, recipe: Recipe, change: float) -> Artifact[ModelFacts]:
    """Seals the model of an arm, as customize does: gates are open, and the rest of the blocks moves by `change`."""
    backbone = load_backbone(recipe.backbone.model_copy(update={"last_k_layers": 2}), seed=recipe.seed)
    for name in freeze(backbone.model, "gated-image"):
        backbone.model.get_parameter(name).data.add_(change)
    open_gates(backbone.model)
    info = {"backbone_config": recipe.backbone.model_dump(), "seed": recipe.seed}
    draft = create(str(run / "arms" / arm / "model"), MODEL, {}, {}, 1)
    files = {
        "gated.safetensors": gated_bytes(backbone.model, info),
        "recipe.yaml": recipe.yaml(everything=False).encode(),
        "model_card.json": b"{}",
    }
    draft.commit_files(0, files, 0.0, 1)
    return draft.seal(ModelFacts(backbone.describe(), "gated-image"))


def scored(recipe: Recipe, name: str, model: Artifact | None, backbone: BackboneConfig, place: str) -> pa.Table:
    """The predictions of the first evaluation images, made and sealed by the code of `evaluate`."""
    tasks = load_tasks(recipe.tasks)
    parents, wise_ft = ({"model": model}, recipe.evaluate.wise_ft) if model else ({}, 1.0)
    draft = create(place, PREDICTIONS, recipe.evaluate.digested(), parents, 1)
    slices = slices_of("test", recipe.evaluate.datasets["test"], tasks)[:1]
    model_of = {name: ScoredModel(backbone, wise_ft=wise_ft)}
    with on_demand(recipe.cluster):
        embedded = embed_sets(recipe, tasks, model_of, {name: {"test": slices}})
    jobs = [(Candidate(name, model_of[name], draft, dict(enumerate(slices))), 0)]
    work = ClassifySlice(jobs, recipe, tasks, embedded, 1)
    work.setup()
    work(0, ReadSlice(jobs, tasks, embedded)(0))
    names = ("dataset", "task", "metric", "value", "num_images")
    sealed = draft.seal(PredictionsFacts([dict(zip(names, row, strict=True)) for row in summarise(draft.read(0))]))
    return sealed.read(0)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = small_recipe(tmp_path_factory.mktemp("one_model"))
    return load_recipe(path, [f"evaluate.wise_ft={WEIGHT}", "seed=3"])


@pytest.fixture(scope="module")
def run(recipe: Recipe) -> Path:
    """Two arms; the first one is scored."""
    folder = Path(recipe.out)
    for arm, change in (("gated_image", 0.05), ("random", 0.02)):
        model = trained(folder, arm, recipe, change)
        if arm == "gated_image":
            weights = recipe.backbone.model_copy(update={"gated": f"{model.uri}/gated.safetensors"})
            scored(recipe, arm, model, weights, str(folder / "arms" / arm / "scores"))
    return folder


def same_predictions(recipe: Recipe, run: Path, backbone: BackboneConfig, place: Path) -> bool:
    """True if a model, as it is, predicts what is stored for the arm gated_image: the same classes, ranks, scores."""
    stored = open_artifact(str(run / "arms/gated_image/scores"), PREDICTIONS).read(0)
    found = scored(recipe, "exported", None, backbone, str(place))
    return bool(found.equals(stored))


def test_the_exported_model_and_the_model_in_python_predict_exactly_what_the_table_scored(
    recipe: Recipe, run: Path, tmp_path: Path
) -> None:
    whole = str(tmp_path / "whole.safetensors")
    said = export_model(str(run), whole, dtype="fp32", arm="gated_image")
    assert said.endswith("fp32; WiSE-FT weight 0.7, with which its scores were made")
    exported = recipe.backbone.model_copy(update={"pretrained": whole})
    assert same_predictions(recipe, run, exported, tmp_path / "exported")
    as_trained = str(tmp_path / "as_trained.safetensors")
    said = export_model(str(run), as_trained, dtype="fp32", arm="gated_image", wise_ft=1)
    assert said.endswith("WiSE-FT weight 1, as you chose; its scores were made with 0.7")
    other = recipe.backbone.model_copy(update={"pretrained": as_trained})
    assert not same_predictions(recipe, run, other, tmp_path / "other")
    ours, _, preprocess = create_model_and_transforms(str(run), arm="gated_image")
    state = load_backbone(exported).model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())
    assert callable(preprocess) and get_tokenizer(str(run), arm="gated_image")(["a heron"]).shape[0] == 1
    by_name = load_model(recipe.backbone.name, str(run), arm="gated_image")
    assert all(torch.equal(value, state[name]) for name, value in by_name.model.state_dict().items())
    card = json.loads((tmp_path / "whole.model_card.json").read_text())
    assert card["wise_ft"] == WEIGHT and {row["dataset"] for row in card["scores"]} == {"test"}
    assert json.loads((tmp_path / "as_trained.model_card.json").read_text())["scores"] == []


def test_half_precision_as_it_is_released_predicts_the_same_classes(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    whole = str(tmp_path / "whole.safetensors")
    export_model(str(run), whole, arm="gated_image")
    exported = recipe.backbone.model_copy(update={"pretrained": whole})
    found = scored(recipe, "exported", None, exported, str(tmp_path / "scores"))
    stored = open_artifact(str(run / "arms/gated_image/scores"), PREDICTIONS).read(0)
    agreed = sum(a == b for a, b in zip(*(t["predicted"].to_pylist() for t in (found, stored)), strict=True))
    assert agreed >= 60  # of 64; a rounded weight may turn a near tie


def test_a_run_lists_its_models_and_one_of_several_has_to_be_chosen(run: Path) -> None:
    both = trained_models(str(run))
    assert [(one.arm, one.wise_ft) for one in both] == [("gated_image", WEIGHT), ("random", WEIGHT)]
    first, second = (one.line() for one in both)
    assert first.startswith(
        "gated_image: gated-image, WiSE-FT weight 0.7, with which its scores were made; top-1: test "
    )
    assert second == (
        "random: gated-image, WiSE-FT weight 0.7, as its recipe says, which has not scored it yet; top-1: not scored"
    )
    with pytest.raises(ConfigError, match=r"has 2 models; choose an arm: gated_image, random$"):
        find_trained(str(run))
    with pytest.raises(ConfigError, match=r"no finished model of an arm locked; choose one of gated_image, random$"):
        find_trained(str(run), "locked")
    for place in (run / "arms/random", run / "arms/random/model"):
        assert find_trained(str(place)).uri == str(run / "arms/random/model") and is_trained(str(place))
        assert find_trained(str(place)).arm == "random"


def test_the_command_line_lists_the_models_and_asks_for_an_arm(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["export", "model", str(run)])
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["gated_image", "random"]
    main(["export", "model", str(run), "--arm", "random", "--wise-ft", "0.5", "--json"])
    [listed] = json.loads(capsys.readouterr().out)
    assert (listed["arm"], listed["wise_ft"], listed["reason"]) == ("random", 0.5, "as you chose")
    out = str(tmp_path / "model.safetensors")
    with pytest.raises(SystemExit) as ended:
        main(["export", "model", str(run), out])
    assert ended.value.code == 2 and "choose an arm: gated_image, random" in capsys.readouterr().err
    assert not Path(out).exists()
    main(["export", "model", str(run), out, "--arm", "random"])
    assert "WiSE-FT weight 0.7, as its recipe says" in capsys.readouterr().out and Path(out).exists()
    with pytest.raises(SystemExit):
        main(["export", "parquet", str(run)])
    assert "export parquet writes a folder; name it behind" in capsys.readouterr().err


def test_what_is_no_run_is_not_taken_for_one(run: Path, tmp_path: Path) -> None:
    assert not any(map(is_trained, ("openai", "ViT-B-32", "random", "", str(tmp_path), "hf-hub:org/name")))
    assert not is_trained(str(run / "arms/random/model/gated.safetensors"))
    with pytest.raises(ArtifactMissing, match="no finished model here; name the folder of a run"):
        find_trained(str(tmp_path))
    with pytest.raises(ConfigError, match="arm and wise_ft choose the model of a run, and openai is none"):
        create_model_and_transforms("ViT-B-32", "openai", arm="random")
    with pytest.raises(BackboneError, match=r"was trained on tiny_clip, not on ViT-B-32; name that model"):
        create_model_and_transforms("ViT-B-32", str(run), arm="random")
    with pytest.raises(BackboneError, match="is a run, which has its weights; leave pretrained=openai out"):
        create_model_and_transforms(str(run), "openai", arm="random")
    with pytest.raises(ConfigError, match=r"choose one in \[0, 1\]"):
        create_model_and_transforms(str(run), arm="random", wise_ft=1.5)


def test_a_file_is_loaded_as_it_was_trained(run: Path) -> None:
    file = str(run / "arms/gated_image/model/gated.safetensors")
    as_trained, file_model = load_customised(str(run), 1, "gated_image"), load_customised(file)
    assert file_model.weights_sha256 == as_trained.weights_sha256
    assert load_model(file_model.config.name, file).weights_sha256 == as_trained.weights_sha256
    with pytest.raises(ConfigError, match="one file of weights, which has no arm random"):
        load_customised(file, arm="random")


def test_scores_of_another_model_or_another_weight_do_not_count(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    scores = copied / "arms/gated_image/scores"

    def score(of: str, weight: float) -> None:
        shutil.rmtree(scores)
        model = open_artifact(str(copied / "arms" / of / "model"), MODEL)
        draft = create(str(scores), PREDICTIONS, {"wise_ft": weight}, {"model": model}, 1)
        draft.commit(0, pa.table({"row": [0]}), 0.0)
        draft.seal(PredictionsFacts([{"dataset": "test", "task": "mean", "metric": "top1", "value": 0.5}]))

    score("random", 0.25)
    found = find_trained(str(copied), "gated_image")
    assert (found.wise_ft, found.scores) == (WEIGHT, []) and "has not scored it yet" in found.reason
    score("gated_image", 0.25)
    found = find_trained(str(copied), "gated_image")
    assert found.wise_ft == 0.25 and found.scores and found.reason == "with which its scores were made"
    assert find_trained(str(copied), "gated_image", 0.5).scores == []
    shutil.rmtree(scores)
    (copied / "arms/gated_image/model/recipe.yaml").unlink()  # as of the earliest versions
    assert find_trained(str(copied), "gated_image").wise_ft == 1


CLASSES = [("birds", "heron"), ("birds", "egret"), ("food", "bun")]
HEAD_FILES = {
    "head.safetensors": head_bytes(HEAD, CLASSES, CustomizeConfig(head_scale=20), {}),
    "model_card.json": b'{"method": "?"}',
    "recipe.yaml": b"evaluate: {wise_ft: 0.5}",
}


def test_a_head_on_stored_vectors_is_exported_and_loaded_as_what_it_is(tmp_path: Path) -> None:
    draft = create(str(tmp_path / "run/model"), MODEL, {}, {}, 1)
    draft.commit_files(0, HEAD_FILES, 0.0, 1)
    draft.seal(ModelFacts({"name": "tiny", "dim": 16}, "linear"))
    run = str(tmp_path / "run")
    head = load_head(run)
    np.testing.assert_allclose(head.vectors_CD, (HEAD["head"] + HEAD["start"]) / 2**0.5, rtol=1e-6)
    assert head.classes == CLASSES
    np.testing.assert_allclose(load_head(run, wise_ft=1).vectors_CD, HEAD["head"])
    out = str(tmp_path / "head.safetensors")
    assert export_head(find_trained(run), out) == (
        f"{out}: linear of 3 fixed classes on the 16 dimensions of tiny, fp32; WiSE-FT weight 0.5, as its recipe says, "
        "which has not scored it yet"
    )
    card = json.loads((tmp_path / "head.model_card.json").read_text())
    assert (card["method"], card["wise_ft"]) == ("linear", 0.5)
    assert card["classes"] == [list(one) for one in CLASSES]
    with pytest.raises(ConfigError, match=r"is a head \(linear\), not a model for .*\.pt; end it with \.safetensors"):
        export_head(find_trained(run), str(tmp_path / "head.pt"))
    with pytest.raises(BackboneError, match=r"is a head \(linear\) on the vectors of tiny.*react_ray\.load_head"):
        create_model_and_transforms(run)


def test_a_second_stage_is_a_model_of_its_own_beside_that_of_its_arm(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    model = open_artifact(str(copied / "arms/gated_image/model"), MODEL)
    draft = create(str(copied / "arms/gated_image/head"), kinds.HEAD, {}, {"model": model}, 1)
    draft.commit_files(0, HEAD_FILES, 0.0, 1)
    draft.seal(HeadFacts(model.facts.backbone, "gated-image"))
    assert [one.arm for one in trained_models(str(copied))] == ["gated_image", "gated_image+head", "random"]
    found = find_trained(str(copied), "gated_image+head")
    assert (found.method, found.wise_ft, found.tower_wise_ft) == ("gated-image + head", 0.5, 1.0)
    assert find_trained(str(copied / "arms/gated_image/model")).arm == "gated_image"
    assert load_head(str(copied), "gated_image+head").classes == CLASSES
    with pytest.raises(ConfigError, match=r"has no head; .*name gated_image\+head once it has a second stage"):
        load_head(str(copied), "gated_image")
    said = export_head(found, str(tmp_path / "ours.safetensors"), dtype="fp32")
    assert "WiSE-FT weight 1, as you chose" in said and "gated-image + head of 3 fixed classes" in said
    exported = read_weights(str(tmp_path / "ours.safetensors"))
    trained_at_1 = load_customised(str(copied), 1.0, "gated_image").model.state_dict()
    name = next(name for name in exported if name.startswith("visual.") and "weight" in name)
    torch.testing.assert_close(exported[name], trained_at_1[name])
    assert set(read_weights(str(tmp_path / "ours.head.safetensors"))) == {"head"}
    export_head(found, str(tmp_path / "folder"), "open_clip")
    assert (tmp_path / "folder/head.safetensors").exists() and (tmp_path / "folder/open_clip_config.json").exists()


def test_a_clip_is_no_head(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a gated-image model, which has no head; load it with"):
        load_head(str(run), "random")
