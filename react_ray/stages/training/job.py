"""Job: everything that the workers need to know about one training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from react_ray.clip.config import BackboneConfig
from react_ray.draft import Draft
from react_ray.gated.config import CustomizeConfig
from react_ray.kinds import ModelFacts
from react_ray.stages.training.online_eval import Watched
from react_ray.training.blocks import Rows
from react_ray.training.class_loss import ClassTargets


@dataclass(frozen=True)
class Job:
    """One training, as the driver hands it to the workers."""

    backbone: BackboneConfig
    config: CustomizeConfig
    rows: Rows
    classes: ClassTargets | None  # of the class loss
    class_weight_C: np.ndarray | None  # float32: the factor of each class's pairs
    card: dict[str, Any]  # what the model card says about the data
    seed: int
    arm: str
    model: Draft[ModelFacts]
    checkpoints: str  # URI
    run: str  # URI
    digest: str
    recipe_yaml: str
    loaders: dict[str, Any]  # Ray options of the processes that make batches
    rows_gb: float  # memory of a process that makes batches
    watched: Watched | None = None  # the evaluation set that is scored while the model trains
    progress: Any = None  # a ProgressBoard
    watcher: Any = None  # a Watcher

    @property
    def title(self) -> str:
        """The name of the training in progress lines and warnings."""
        return f"train {self.arm}".strip()
