"""The file head.safetensors: a head of fixed classes on the image vectors of a model.

A head comes from a method on stored vectors (`linear`, `cache`, `knn`), or from the second stage of any other method
(customize.head), which is a linear head on the vectors of the customised model. Next: run_head.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from react_ray.clip.image_tower import grid_features
from react_ray.clip.weights import read_info, read_weights, weights_bytes
from react_ray.errors import BackboneError, ConfigError
from react_ray.gated.config import CustomizeConfig
from react_ray.training.cache import Cache
from react_ray.training.knn import Neighbours
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.scorer import ClassVectors, Scorer

HEAD_FILE = "head.safetensors"
KEYS = ("keys", "key_classes", "key_weights")
KINDS = {
    frozenset(("head", "start")): "linear",
    frozenset((*KEYS, "start")): "cache",
    frozenset(KEYS): "knn",
}  # the tensors of each kind of head
SETTINGS = {
    "linear": ("head_scale",),
    "cache": ("head_scale", "cache_alpha", "cache_beta"),
    "knn": ("knn_k", "knn_temperature"),
}  # the fields of `customize` by which it scores


@dataclass(frozen=True)
class Head:
    """Scores the classes of several tasks."""

    kind: str
    classes: list[tuple[str, str]]  # (task, class name), by class id; the classes of a task follow each other
    tensors: dict[str, Tensor]
    settings: dict[str, float]
    info: dict[str, Any]  # of the file
    wise_ft: float = 1.0  # 0 = the class prompts alone; nearest neighbours have none

    @property
    def grid(self) -> int:
        """The cells per side of which an image's vector has the patch tokens; 0 = it is the image feature alone."""
        return int(self.info.get("grid", 0))

    def image_vectors(self, model: nn.Module, image_BCHW: Tensor) -> np.ndarray:
        """What the scorers take: float32 [B, D + grid * grid * W], unit rows, of normalised images.

        model: the one that the head was trained on; for a second stage, as it was trained (WiSE-FT weight 1).
        """
        return grid_features(model, image_BCHW, self.grid).numpy(force=True)

    @property
    def tasks(self) -> dict[str, slice]:
        """The class ids of each task."""
        names = [task for task, _ in self.classes]
        return {task: slice(names.index(task), names.index(task) + names.count(task)) for task in dict.fromkeys(names)}

    @property
    def vectors_CD(self) -> np.ndarray:
        """Unit rows of a linear head; ConfigError for another."""
        if self.kind != "linear":
            raise ConfigError(f"a head of the kind {self.kind} has no vector for each class; use its scorers instead")
        head_CD = torch.lerp(F.normalize(self.tensors["start"], dim=1), self.tensors["head"], self.wise_ft)
        return F.normalize(head_CD, dim=1).numpy()

    def scorers(self) -> dict[str, Scorer]:
        """One for each task."""
        return {task: self._scorer(classes) for task, classes in self.tasks.items()}

    def probabilities(self, score_NC: np.ndarray) -> np.ndarray:
        """float32 [N, C], rows that sum to 1: a softmax of logits, or the shares of the neighbours' votes."""
        if self.kind == "knn":
            return score_NC
        scale = self.settings["head_scale"] if self.kind == "linear" else 1.0
        return torch.from_numpy(scale * score_NC).softmax(dim=1).numpy()

    def _scorer(self, classes: slice) -> Scorer:
        if self.kind == "linear":
            return ClassVectors(self.vectors_CD[classes])
        keys = LabelledVectors(*(self.tensors[name].numpy() for name in KEYS)).of_task(classes.start, classes.stop)
        if self.kind == "knn":
            of = self.settings
            return Neighbours(keys, classes.stop - classes.start, int(of["knn_k"]), of["knn_temperature"])
        start_CD = F.normalize(self.tensors["start"][classes], dim=1).numpy()
        scale, alpha, beta = (self.settings[name] for name in SETTINGS["cache"])
        return Cache(ClassVectors(start_CD), keys, scale, self.wise_ft * alpha, beta)


def head_bytes(
    arrays: dict[str, np.ndarray], classes: Iterable[tuple[str, str]], config: CustomizeConfig, info: dict[str, Any]
) -> bytes:
    """arrays: the tensors of one of KINDS; `start` and `head` float32 [C, D], or `start`, `keys` float16 [N, D],
    `key_classes` int32 [N, L] and `key_weights` float32 [N, L] as in LabelledVectors. info: what else the file says."""
    settings = {name: getattr(config, name) for name in SETTINGS[KINDS[frozenset(arrays)]]}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    return weights_bytes(tensors, info | {"classes": list(map(list, classes)), "settings": settings})


def read_head(path: str, wise_ft: float = 1.0) -> Head:
    """The head of a local file."""
    tensors, info = read_weights(path), read_info(path)
    kind = KINDS.get(frozenset(tensors))
    if kind is None or not {"classes", "settings"} <= set(info):
        raise BackboneError(f"{path} is no head; name the {HEAD_FILE} that `react-ray customize` has made")
    return Head(kind, [(task, name) for task, name in info["classes"]], tensors, info["settings"], info, wise_ft)
