"""The model depends neither on sharding, interruptions and the number of workers nor on where batches are made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from react_ray.artifact import Artifact
from react_ray.clip.weights import read_weights
from react_ray.errors import ConfigError, PartFailed
from react_ray.recipe import Recipe, load_recipe
from react_ray.storage import open_parquet
from tests.support.small_run import OTHER_CLIP

SHARDED = {
    "zero_0": {},
    "zero_1": {"customize.zero_stage": 1},
    "zero_2": {"customize.zero_stage": 2},
    "zero_3": {"customize.zero_stage": 3},
    "zero_1_offload": {"customize.zero_stage": 1, "customize.offload": True},
    "zero_3_offload": {"customize.zero_stage": 3, "customize.offload": True},
}


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    for name in ("database", "run"):
        shutil.copytree(finished / name, tmp_path / name)
    return tmp_path


def recipe_of(finished: Path, copied: Path, *changes: str, arms: dict[str, dict[str, object]] | None = None) -> Recipe:
    written = yaml.safe_dump(arms or {}, default_flow_style=True, width=10_000, sort_keys=False).strip()
    places = [f"database={copied / 'database'}", f"out={copied / 'run'}"]
    return load_recipe(str(finished / "recipe.yaml"), [*places, f"arms={written}", *changes])


def weights(model: Artifact) -> dict[str, torch.Tensor]:
    return read_weights(f"{model.uri}/gated.safetensors")


def losses(run: Path, arm: str = "model") -> list[float]:
    lines = (run / f"metrics/train-{arm}.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(
            value, theirs[name], atol=tolerance, rtol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def damage(path: Path, column: str) -> None:
    """What is stored of this column cannot be read; the schema can."""
    group = pq.read_metadata(path).row_group(0)
    [chunk] = [one for number in range(group.num_columns) if (one := group.column(number)).path_in_schema == column]
    with path.open("r+b") as file:
        file.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
        file.write(b"\xff" * 64)


@pytest.mark.slow  # tests/unit/stages/training/test_zero_state.py has the same without Ray
def test_every_zero_stage_trains_the_same_model(finished: Path, copied: Path, local_ray: None) -> None:
    from react_ray.stages import customize

    recipe = recipe_of(finished, copied, "customize.grad_clip=1", arms=SHARDED)
    plain, *sharded = customize.run(recipe)
    assert len(losses(copied / "run", "zero_0")) == 12
    for name, model in zip(list(SHARDED)[1:], sharded, strict=True):
        assert losses(copied / "run", name) == pytest.approx(losses(copied / "run", "zero_0"), rel=1e-5), name
        close(weights(model), weights(plain), 1e-5)
        written = json.loads((copied / f"run/arms/{name}/checkpoints/deepspeed.json").read_text())
        assert written["zero_optimization"]["stage"] == int(name.split("_")[1])


@pytest.mark.slow
def test_a_training_goes_on_with_other_workers_and_another_sharding(
    finished: Path, copied: Path, local_ray: None
) -> None:
    from react_ray.stages import customize

    kept = ("customize.keep_last=9", "customize.ema_decay=0.5")
    [whole] = customize.run(recipe_of(finished, copied, *kept, "customize.zero_stage=2"))
    expected, trace = weights(whole), losses(copied / "run")
    checkpoints = copied / "run/checkpoints"
    assert sorted(path.name for path in checkpoints.glob("step_*")) == ["step_00000004", "step_00000008"]
    for workers, stage in ((2, 2), (1, 0)):
        shutil.rmtree(copied / "run/model")
        shutil.rmtree(checkpoints / "step_00000008")
        change = (f"customize.num_workers={workers}", f"customize.zero_stage={stage}")
        [again] = customize.run(recipe_of(finished, copied, *kept, *change))
        close(weights(again), expected, 0 if workers == 2 else 1e-5)
        assert losses(copied / "run") == pytest.approx(trace, rel=0 if workers == 2 else 1e-5)


@pytest.mark.slow
def test_batches_are_the_same_wherever_they_are_made_and_scores_come_meanwhile(
    finished: Path, copied: Path, local_ray: None
) -> None:
    """All arms train in one group of workers, because its start takes most of the time."""
    from react_ray.stages import customize

    auto = {
        "customize.augment": {
            "auto": "rand-m9-mstd0.5-inc1",
            "crop_area": 0.08,
            "crop_ratio": 1.3333,
            "flip": 0.5,
            "erase": 0.25,
        }
    }
    watched = {"customize.watch_dataset": "held", "customize.watch_every_steps": 5}
    arms = {
        "thread": auto,
        "two": auto | {"customize.data_workers": 2},
        "plain": {"customize.data_workers": 1},
        "watched": watched,
        "best": watched | {"customize.keep": "best"},
        "wider": watched
        | {"customize.backbone": {"name": OTHER_CLIP, "pretrained": "random"}, "customize.class_loss": 1.0},
    }
    sets = "evaluate.datasets={test: 'sample://validation.parquet', held: 'sample://test.parquet'}"
    thread, two, plain, last, kept, _ = customize.run(recipe_of(finished, copied, sets, arms=arms))
    close(weights(two), weights(thread), 0)
    close(weights(plain), weights(last), 0)
    assert losses(copied / "run", "thread") != losses(copied / "run", "watched")

    assert (copied / "run/arms/wider/class_queries/manifest.json").exists(), "its class loss is in its own space"
    for arm in ("wider", "watched"):
        lines = [json.loads(line) for line in (copied / f"run/metrics/scores-{arm}.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [5, 10, 12]
        assert all(set(line) == {"step", "top1/mean", "top1/weather", "top1/food"} for line in lines)
    card = json.loads((copied / "run/arms/watched/model/model_card.json").read_text())
    assert {(row["dataset"], row["task"], row["step"]) for row in card["scores"]} == {
        ("held", task, 12) for task in ("weather", "food", "mean")
    }
    best = max(lines, key=lambda line: (line["top1/mean"], -line["step"]))["step"]
    every = {
        int(path.stem[5:]): path for path in (copied / "run/arms/watched/checkpoints/watched").glob("*.safetensors")
    }
    assert best in every and set(every) <= {5, 10, 12}
    close(weights(kept), read_weights(str(every[best])), 0)
    assert json.loads((copied / "run/arms/best/model/gated.json").read_text())["best_step"] == best


@pytest.mark.slow
def test_scores_that_fail_are_told_and_stop_only_a_training_that_chooses_by_them_and_it_once(
    finished: Path, copied: Path, local_ray: None, caplog: pytest.LogCaptureFixture
) -> None:
    from react_ray.stages import customize

    broken = copied / "broken.parquet"
    pq.write_table(open_parquet("sample://test.parquet").read(["image", "task", "label"]), broken)
    damage(broken, "image")
    watched = {"customize.watch_dataset": "held", "customize.watch_every_steps": 5, "customize.min_workers": 1}
    arms = {"last": watched, "best": watched | {"customize.keep": "best"}}
    sets = f"evaluate.datasets={{test: 'sample://validation.parquet', held: '{broken}'}}"
    with pytest.raises(PartFailed, match=r"keep=best: no score came from held \(step 12: .*broken.*set keep=last"):
        customize.run(recipe_of(finished, copied, sets, arms=arms))
    [told] = [record.getMessage() for record in caplog.records if "did not come" in record.getMessage()]
    assert told.startswith("train last: a score on held did not come") and "step 12: " in told and "damaged" in told
    assert (copied / "run/arms/last/model/gated.safetensors").exists()
    assert len(list((copied / "run/tensorboard/best").iterdir())) == 1, "one file of each start"


def test_what_cannot_be_watched_is_refused_before_anything_starts(finished: Path, copied: Path) -> None:
    from react_ray.stages import customize

    sets = "evaluate.datasets={test: 'sample://validation.parquet', held: 'sample://test.parquet'}"
    for changes, problem in (
        (["customize.watch_dataset=none"], "is none of evaluate.datasets .test, held.; name one of them"),
        (
            ["customize.watch_dataset=test", "customize.keep=best"],
            "keep=best would choose by test, which the report shows",
        ),
        (["customize.keep=best"], "set customize.watch_dataset to one of evaluate.datasets"),
        (["customize.num_workers=3", "customize.min_workers=2"], "batch_size 64 is not a multiple of 3 workers"),
    ):
        with pytest.raises(ConfigError, match=problem):
            customize.run(recipe_of(finished, copied, sets, *changes))
