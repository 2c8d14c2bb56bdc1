"""What trackers are told, by the real packages, where neither needs a server: W&B offline, MLflow in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.errors import ConfigError
from react_ray.training.trackers import check_installed, open_trackers

DIGEST = "0123456789abcdef" * 4


def test_mlflow_finds_its_run_again_and_has_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # it would ask the network
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tmp_path.as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    for first in (1, 4):  # as a training that was killed after step 3
        [tracker] = open_trackers(["mlflow"], "herons", "gated_image", DIGEST, {"method": "gated-image"})
        for step in range(first, first + 3):
            tracker.log(step, {"loss": 1 / step, "gate/01.attn": 0.5})
        tracker.close()
    client = mlflow.MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("herons").experiment_id])
    assert run.info.run_name == "gated_image" and run.data.params == {"method": "gated-image"}
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")] == [
        (n, 1 / n) for n in range(1, 7)
    ]


def test_wandb_takes_scores_of_earlier_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    for name, value in (values | {"WANDB__SERVICE_WAIT": "300"}).items():  # for the start of its own process
        monkeypatch.setenv(name, value)
    [tracker] = open_trackers(["wandb"], "herons", "gated_image", DIGEST, {"method": "gated-image"})
    for step in (1, 2, 3):
        tracker.log(step, {"loss": 1 / step})
    tracker.log(2, {"top1/mean": 0.25})
    tracker.log(4, {"loss": 0.25})  # W&B takes a step in once the next one begins
    summary = dict(tracker._run.summary)  # type: ignore[attr-defined]
    assert summary["top1/mean"] == 0.25 and summary["at_step"] == 2
    tracker.close()
    [written] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert written.stat().st_size > 0


def test_a_tracker_that_is_not_there_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"customize.trackers: nowhere is not installed; pip install nowhere, or take it out"
    ):
        check_installed(["nowhere"])
