"""A whole run, as a user types it: what comes out, that it survives any kill, and that storage makes no difference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import boto3
import pytest
import yaml
from safetensors import safe_open

from react_ray.clip.config import BackboneConfig
from react_ray.errors import ArtifactMismatch
from react_ray.gated.load import load_backbone, load_customised
from react_ray.recipe import load_recipe
from react_ray.runtime.preflight import begin
from react_ray.storage import open_storage
from tests.support.s3_server import s3_server
from tests.support.small_run import ARMS, OTHER_CLIP, contents, kill_when, react_ray, small_recipe


def test_a_run_goes_from_class_names_to_a_table_and_a_report(finished: Path) -> None:
    summary = json.loads((finished / "run/summary.json").read_text())
    assert set(summary) >= {"dataset", "tasks", "mean", "best", "gains", "over_controls", "seed", "seconds"}
    assert set(summary["gains"]) == set(ARMS) and summary["best"] in ("other", "gated_image")
    assert all(gain["low"] <= gain["gain"] <= gain["high"] for gain in summary["gains"].values())
    assert set(summary["tasks"]) == {"weather", "food"}
    assert summary["over_pixels"]["pixels.retrieved"]["of"] in ("other", "gated_image")
    costs = [summary["rows"][row] for row in (*ARMS, "pixels.retrieved")]
    assert all(cost["trained_in_seconds"] > 0 and cost["bytes"] > 0 for cost in costs)
    for scores in [summary["mean"], *summary["tasks"].values()]:
        assert set(scores) == {"base", "base.other", *ARMS, "pixels.retrieved"}
        assert all(0 <= value <= 1 for value in scores.values())
    assert summary["seconds"].keys() >= {"ingest", "embed", "index", "retrieve", "customize", "evaluate"}
    assert 0 < summary["peak_rss_gb"] < 8
    table = (finished / "stdout").read_text()
    assert "gated-image" in table and "weather" in table and "report.html" in table
    assert "<html" in (finished / "run/report.html").read_text()[:500]
    resolved = yaml.safe_load((finished / "run/recipe.yaml").read_text())
    assert resolved["customize"]["batch_size"] == 64 and resolved["customize"]["beta2"] == 0.98
    assert resolved["customize"]["gate_lr_scale"] == 0


def test_what_the_recipe_leaves_to_the_data_is_settled_told_and_kept_with_the_model(finished: Path) -> None:
    place, said = finished / "run/arms/gated_image/model", (finished / "stderr").read_text()
    schedule = {"batch_size": 64, "epochs": 3.2, "warmup_steps": 2, "lr": 1e-3, "gate_lr_scale": 10}
    manifest = json.loads((place / "manifest.json").read_text())
    assert json.loads((place / "gated.json").read_text())["schedule"] == schedule
    assert {name: manifest["config"][name] for name in schedule} == schedule
    told = "3.2 epochs in batches of 64: 48 steps, 2 of them warm-up, learning rate 0.001, gates x 10"
    assert told in said and told in manifest["facts"]["summary"][-1]
    assert (
        "customize random  in 12 steps of " in said and "the gates, which start at 0, can open to 0.07 at most" in said
    )


def test_an_arm_customises_another_backbone_than_the_one_that_retrieved(finished: Path) -> None:
    model = finished / "run/arms/other/model"
    info, card = (json.loads((model / name).read_text()) for name in ("gated.json", "model_card.json"))
    assert info["live_text"] and info["backbone"]["dim"] == 24 and info["backbone"]["image_size"] == 40
    assert card["backbone"]["name"] == OTHER_CLIP and card["data"]["retrieved_by"]["dim"] == 16
    assert "customises other_clip: its text tower runs in each step" in (finished / "stderr").read_text()
    ours = load_customised(str(model))
    base = load_backbone(BackboneConfig(name=OTHER_CLIP, pretrained="random"))
    assert (ours.image_size, ours.dim, ours.crop) == (40, 24, "squash") and ours.text_sha256 == base.text_sha256
    assert ours.weights_sha256 != base.weights_sha256

    places = ("scores/base", "arms/random/scores", "scores/base.other", "arms/other/scores")
    manifests = [json.loads((finished / "run" / place / "manifest.json").read_text()) for place in places]
    scored = [manifest["config"]["backbone"] for manifest in manifests]
    assert [backbone["dim"] for backbone in scored] == [16, 16, 24, 24]
    assert [backbone["weights_sha256"] for backbone in scored[2:]] == [base.weights_sha256, ours.weights_sha256]

    table = (finished / "run/table.md").read_text()
    assert "| against its base |" in table
    assert all(
        f"\n| {label}" in table for label in ("base tiny_clip", "random pairs", "gated-image", "base other_clip")
    )


def test_progress_of_every_stage_is_visible(finished: Path) -> None:
    lines = (finished / "stderr").read_text()
    assert not [line for line in lines.splitlines() if "INFO" in line or "Ray instance" in line]
    for stage in ("ingest", "embed", "index", "search", "gather", "train gated_image", "evaluate"):
        assert f"\n{stage} " in f"\n{lines}", stage


def test_only_gated_blocks_and_the_temperature_train_and_the_rest_is_unchanged(finished: Path) -> None:
    model = finished / "run/arms/gated_image/model"
    with safe_open(model / "gated.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert "logit_scale" in names
    blocks = {name.split(".")[3] for name in names - {"logit_scale"}}
    assert blocks == {"1", "2"} and all(".gated_attn_block." in name for name in names - {"logit_scale"})
    assert len(names) == 1 + 14 * 2

    from react_ray.gated.checkpoint import load_gated

    resolved = yaml.safe_load((finished / "run/recipe.yaml").read_text())
    backbone = load_backbone(BackboneConfig(**resolved["backbone"]), seed=0)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    load_gated(backbone.model, str(model / "gated.safetensors"))  # refuses if a frozen weight had changed
    after = backbone.model.state_dict()
    assert all(after[name].equal(value) for name, value in before.items() if name != "logit_scale")


def test_another_weight_of_wise_ft_asks_for_the_old_scores_to_go_and_touches_nothing(finished: Path) -> None:
    kept = (finished / "run/recipe.yaml").read_bytes()
    with pytest.raises(
        ArtifactMismatch, match=r"wise_ft was 1\.0, now 0\.5; .*there \(scores, .*, arms/gated_image/scores\)"
    ):
        begin(load_recipe(str(finished / "recipe.yaml"), ["evaluate.wise_ft=0.5"]), "evaluate")
    assert (finished / "run/recipe.yaml").read_bytes() == kept


def test_the_same_command_again_changes_nothing(finished: Path) -> None:
    before = contents(str(finished / "database"), str(finished / "run"))
    receipts = {path: path.stat().st_mtime_ns for path in finished.rglob("part-*.json")}
    again = react_ray("run", str(finished / "recipe.yaml"))
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stdout == (finished / "stdout").read_text() and again.stderr.startswith("nothing to do")
    assert contents(str(finished / "database"), str(finished / "run")) == before
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("part-*.json")} == receipts


def steps_of(checkpoints: Path) -> list[int]:
    return sorted(int(path.parent.name[5:]) for path in checkpoints.glob("step_*/checkpoint.json"))


def test_a_training_killed_with_all_its_workers_goes_on_and_the_run_ends_with_the_same_artifacts_and_scores(
    finished: Path, tmp_path: Path
) -> None:
    for name in ("database", "run"):
        shutil.copytree(finished / name, tmp_path / name)
    arm = tmp_path / "run/arms/gated_image"
    for path in (arm, tmp_path / "run/metrics/train-gated_image.jsonl"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    recipe, checkpoints = small_recipe(tmp_path), arm / "checkpoints"
    kill_when(recipe, lambda: bool(steps_of(checkpoints)), verb="customize", everything=True)
    last = steps_of(checkpoints)[-1]
    done = react_ray("run", recipe)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"went on from step {last}" in done.stderr
    assert_same(tmp_path, finished)


@pytest.mark.slow
def test_a_run_killed_in_every_phase_ends_with_the_same_artifacts_and_scores(finished: Path, tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    phases = {
        "ingest": lambda: len(list((tmp_path / "database/images").glob("part-*.json"))) >= 2,
        "embed": lambda: len(list((tmp_path / "database/embeddings").glob("part-*.json"))) >= 2,
        "index": lambda: any((tmp_path / "database/index").glob("part-*.json")),
        "collect": lambda: (tmp_path / "run/hits/manifest.json").exists(),
        "customize": lambda: bool(steps_of(tmp_path / "run/arms/gated_image/checkpoints")),
        "evaluate": lambda: any((tmp_path / "run/labelled_features/base").rglob("part-*.json")),
    }
    kept: dict[Path, int] = {}
    for phase, reached in phases.items():
        # The workers too, as when a machine loses power: left alone, those of customize would finish their few steps.
        kill_when(recipe, reached, everything=phase != "embed")
        now = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("part-*.json")}
        assert {path: now[path] for path in kept} == kept, "a part that was committed was done again"
        kept = now
    done = react_ray("run", recipe)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(tmp_path, finished)


def assert_same(one: Path, other: Path) -> None:
    """Two runs have the same artifacts and scores."""
    mine, theirs = (contents(str(folder / "database"), str(folder / "run")) for folder in (one, other))
    assert mine == theirs
    summaries = [json.loads((folder / "run/summary.json").read_text()) for folder in (one, other)]
    assert summaries[0]["tasks"] == summaries[1]["tasks"] and summaries[0]["mean"] == summaries[1]["mean"]


@pytest.mark.slow
def test_the_same_run_on_s3_gives_the_same_artifacts(finished: Path, tmp_path: Path) -> None:
    with s3_server():
        boto3.client("s3").create_bucket(Bucket="web")
        database, out = "s3://web/database", "s3://web/runs/small"
        done = react_ray("run", small_recipe(tmp_path), f"database={database}", f"out={out}")
        assert done.returncode == 0, done.stderr[-3000:]
        assert contents(database, out) == contents(str(finished / "database"), str(finished / "run"))
        assert open_storage(out).read("report.html")
