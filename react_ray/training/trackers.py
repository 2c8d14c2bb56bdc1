"""Sends the numbers of the metrics stream to Weights & Biases or MLflow, if the recipe names them.

A resumed training finds its run again. Neither package is a dependency; where and as whom they write is configured by
their own environment variables (WANDB_*, MLFLOW_*).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterable
from typing import Any, Protocol

from react_ray.errors import ConfigError

PACKAGES = {"wandb": "wandb", "mlflow": "mlflow-skinny"}
DIGEST = "react_ray_digest"


class Tracker(Protocol):
    def log(self, step: int, values: dict[str, float]) -> None: ...
    def close(self) -> None: ...


def check_installed(names: Iterable[str]) -> None:
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"customize.trackers: {name} is not installed; pip install {PACKAGES.get(name, name)}, or take it out"
            )


def open_trackers(names: Iterable[str], project: str, name: str, digest: str, facts: dict[str, Any]) -> list[Tracker]:
    """project: the recipe's name. name: the run's. digest: the training's, by which its run is found again."""
    makers: dict[str, Any] = {"wandb": Wandb, "mlflow": Mlflow}
    return [makers[one](project, name, digest, facts) for one in names]


class Wandb:
    def __init__(self, project: str, name: str, digest: str, facts: dict[str, Any]) -> None:
        import wandb

        self._run = wandb.init(project=project, name=name, id=digest[:32], resume="allow", config=facts)
        self._last = 0

    def log(self, step: int, values: dict[str, float]) -> None:
        """W&B refuses steps before its last one, and the score of a step comes some steps later."""
        self._last = max(self._last, step)
        self._run.log(values | {"at_step": step}, step=self._last)

    def close(self) -> None:
        self._run.finish()


class Mlflow:
    def __init__(self, project: str, name: str, digest: str, facts: dict[str, Any]) -> None:
        import mlflow

        self._metric = mlflow.entities.Metric
        self._client = mlflow.MlflowClient()
        found = self._client.get_experiment_by_name(project)
        experiment = found.experiment_id if found else self._client.create_experiment(project)
        runs = self._client.search_runs([experiment], f"tags.{DIGEST} = '{digest}'", max_results=1)
        run = runs[0] if runs else self._client.create_run(experiment, run_name=name, tags={DIGEST: digest})
        self._id = run.info.run_id
        if not runs:
            for key, value in facts.items():
                self._client.log_param(self._id, key, value)

    def log(self, step: int, values: dict[str, float]) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[self._metric(key, value, now, step) for key, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._id)
