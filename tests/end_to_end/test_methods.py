"""Linear heads, other backbones, divergence and exports, on the artifacts of a finished run."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from react_ray.artifact import open_artifact
from react_ray.cli import main
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import load_tasks
from react_ray.clip.weights import read_info, read_weights
from react_ray.errors import ArtifactMismatch, ConfigError, TrainingDiverged
from react_ray.gated.load import load_backbone
from react_ray.gated.trained import find_trained
from react_ray.kinds import QUERIES
from react_ray.recipe import Recipe, load_recipe
from react_ray.training.run_head import load_head
from tests.support.small_run import OTHER_CLIP, contents

OTHER_BACKBONE = f"customize.backbone={{name: '{OTHER_CLIP}', pretrained: random}}"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    for name in ("database", "run"):
        shutil.copytree(finished / name, tmp_path / name)
    return tmp_path


def recipe_of(finished: Path, copied: Path, *changes: str) -> Recipe:
    places = [f"database={copied / 'database'}", f"out={copied / 'run'}"]
    return load_recipe(str(finished / "recipe.yaml"), [*places, "arms={}", *changes])


def test_heads_are_made_and_scored_like_any_other_model(finished: Path, copied: Path, local_ray: None) -> None:
    """A second stage on a model that is trained already, and the methods that run no model."""
    from react_ray.stages import customize, evaluate

    methods = "{linear: {customize.method: linear}, cache: {customize.method: cache}, knn: {customize.method: knn}"
    second_stage = "gated_image: {customize.epochs: 3.2, customize.head: true}}"
    before = open_artifact(str(copied / "run/arms/gated_image/model")).content
    recipe = recipe_of(finished, copied, f"arms={methods}, {second_stage}")
    *models, head = customize.run(recipe)
    assert [model.facts.method for model in models] == ["linear", "cache", "knn", "gated-image"]
    assert models[-1].content == before and head.manifest.parents["model"] == before
    card = json.loads((copied / "run/arms/linear/model/model_card.json").read_text())
    assert sum(count for _, count in card["data"]["pairs_by_class"]) == card["data"]["num_pairs"] > 0
    assert [again.content for again in customize.run(recipe)] == [*(model.content for model in models), head.content]
    for arm in ("linear", "gated_image+head"):
        trained, prompts = (load_head(str(copied / "run"), arm, weight) for weight in (1.0, 0.0))
        assert (trained.vectors_CD != prompts.vectors_CD).any() and list(trained.tasks) == ["weather", "food"]
    scores = {one.facts.scores[0]["model"]: one for one in evaluate.run(recipe)}
    assert set(scores) >= {"base", "linear", "cache", "knn", "gated_image", "gated_image+head"}
    assert len({one.content for one in scores.values()}) == len(scores)
    assert find_trained(str(copied / "run"), "gated_image+head").scores == scores["gated_image+head"].facts.scores


def test_vectors_of_another_text_tower_are_refused_before_anything_starts(finished: Path, copied: Path) -> None:
    from react_ray.stages import customize

    with pytest.raises(
        ArtifactMismatch, match=r"embedded by another text tower \(text_sha256 .*set customize.live_text=true"
    ):
        customize.run(recipe_of(finished, copied, "seed=7"))
    with pytest.raises(ConfigError, match=r"set customize.zero_stage to 1, 2 or 3"):
        customize.run(recipe_of(finished, copied, "customize.offload=true"))
    with pytest.raises(
        ConfigError, match=r"customize.batch_size 100000 is larger than the \d+ pairs .*; make it smaller"
    ):
        customize.run(recipe_of(finished, copied, "customize.batch_size=100000"))
    assert not (copied / "run/model").exists()


def test_another_backbone_is_another_model_of_the_same_retrieved_pairs(
    finished: Path, copied: Path, local_ray: None
) -> None:
    from react_ray.stages import customize, embed, evaluate, index, retrieve

    places = [f"database={copied / 'database'}", f"out={copied / 'run'}"]
    before = contents(str(copied / "database"), str(copied / "run"))
    changed = load_recipe(str(finished / "recipe.yaml"), [*places, OTHER_BACKBONE])
    for verb in (embed.run, index.run, retrieve.run):
        verb(changed)
    for verb in (customize.run, evaluate.run):
        with pytest.raises(ArtifactMismatch, match=r"backbone.*was .*, now "):
            verb(changed)
    assert contents(str(copied / "database"), str(copied / "run")) == before


def test_classes_are_asked_again_in_the_space_of_another_backbone(finished: Path, copied: Path) -> None:
    from react_ray.stages.retrieval.gather_pairs import class_vectors
    from react_ray.stages.training.targets import class_targets

    recipe = recipe_of(finished, copied, OTHER_BACKBONE, "retrieve.prompts=averaged")
    embedder = Embedder(load_backbone(recipe.customized), 64, "cpu")
    found_CD = class_targets(recipe, "", embedder.backbone.describe()).vector_CD
    expected_CD = np.concatenate([embedder.zero_shot_classifier(task) for task in load_tasks(recipe.tasks)])
    np.testing.assert_allclose(found_CD, expected_CD, atol=2e-3)
    asked = open_artifact(f"{recipe.out}/queries", QUERIES)
    np.testing.assert_array_equal(class_targets(recipe, "", asked.facts.backbone).vector_CD, class_vectors(asked))


@pytest.mark.parametrize("rate", ["1e4", pytest.param("1e30", marks=pytest.mark.slow)])
def test_a_loss_that_is_not_finite_stops_the_run_at_once_and_names_its_pairs(
    finished: Path, copied: Path, local_ray: None, rate: str
) -> None:
    """At the second step with the higher rate, and some steps later with the other."""
    from react_ray.stages import customize

    often = ("customize.warmup_steps=0", "customize.checkpoint_every_steps=1", "customize.keep_last=1")
    with pytest.raises(TrainingDiverged, match=r"lower customize\.lr") as stopped:
        customize.run(recipe_of(finished, copied, f"customize.lr={rate}", *often))
    checkpoints = copied / "run/checkpoints"
    found = json.loads((checkpoints / "diverged.json").read_text())
    step, pair_ids, what = found["step"], found["pair_ids"], found["what"]
    assert str(stopped.value).startswith(f"the {what} of step {step} is ")
    named = ", ".join(map(str, pair_ids[:10]))
    assert f"of pairs {named} and 54 more (all are in {checkpoints / 'diverged.json'});" in str(stopped.value)
    assert len(pair_ids) == 64 and not any(pair_id < 0 for pair_id in pair_ids), "of both workers"
    good = step - 1 if what == "loss" else step  # the last weights with a finite loss: of so many steps
    kept = [int(path.parent.name[5:]) for path in checkpoints.glob("step_*/checkpoint.json")]
    assert kept == ([good] if good else []) and len(list(checkpoints.glob("step_*/state.safetensors"))) == len(kept)
    assert good > 1 or rate == "1e30"
    rows = [json.loads(line) for line in (copied / "run/metrics/train-model.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, step + 1))
    assert all(math.isfinite(row["loss"]) and 0 < row["grad_norm"] < math.inf for row in rows)
    assert not (copied / "run/model/manifest.json").exists()


def test_a_trained_model_leaves_in_both_layouts(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(finished / "run/arms/gated_image/model")
    for out, layout in ((str(tmp_path / "whole.pt"), "official"), (str(tmp_path / "folder"), "open_clip")):
        main(["export", "model", model, out, "--layout", layout, "--dtype", "fp32"])
    assert "parameters of" in capsys.readouterr().out
    for card in (tmp_path / "whole.model_card.json", tmp_path / "folder/model_card.json"):
        scores = json.loads(card.read_text())["scores"]
        assert {(row["dataset"], row["task"]) for row in scores if row["metric"] == "top1"} == {
            ("test", name) for name in ("weather", "food", "mean")
        }
    state = read_weights(str(tmp_path / "whole.pt"))
    assert sum("gated_attn_block" in name for name in state) == 28
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'folder'}")
    from react_ray.gated.load import load_customised

    assert read_info(f"{model}/gated.safetensors")["seed"] == load_recipe(str(finished / "recipe.yaml")).seed
    ours = load_customised(model)
    image = torch.randn(2, 3, ours.image_size, ours.image_size)
    torch.testing.assert_close(
        theirs.eval().encode_image(image),
        ours.model.encode_image(image),  # type: ignore[operator]
        atol=1e-4,
        rtol=1e-4,
    )
