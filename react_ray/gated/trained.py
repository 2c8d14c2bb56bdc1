"""Finds the models that a run has trained, and the WiSE-FT weight of each with which its table was scored.

Takes the URI of a run, of one arm's folder or of an artifact `model`, gives a TrainedModel. The second stage of an arm
is a model of its own, under the arm's name with `+head` behind it. The weight is stored in one
place, the manifest of the scores beside the model, so that it cannot disagree with the table. A model without scores
has the weight of `evaluate.wise_ft` in the recipe that trained it. Next: load.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.config import BackboneConfig
from react_ray.clip.identity import WEIGHT_FILES
from react_ray.errors import ArtifactMissing, BackboneError, ConfigError
from react_ray.gated.config import OF_HEAD, runs_no_model
from react_ray.kinds import HEAD, MODEL, PREDICTIONS, HeadFacts, ModelFacts
from react_ray.manifest import MANIFEST
from react_ray.storage import join, open_storage
from react_ray.yaml_file import parse_yaml, typed

RECIPE_FILE = "recipe.yaml"
GATED_FILE = "gated.safetensors"


@dataclass(frozen=True)
class TrainedModel:
    """One finished model, with the weight at which it is used."""

    model: Artifact[ModelFacts]
    arm: str  # "" for the only model of a run without arms; ends with +head for a second stage
    wise_ft: float
    reason: str  # why this weight, as a clause that follows it
    scores: list[dict[str, Any]] = field(default_factory=list)  # of exactly this weight, by `evaluate`
    second_stage: Artifact[HeadFacts] | None = None

    @property
    def uri(self) -> str:
        return self.model.uri

    @property
    def head(self) -> Artifact | None:
        """What holds the head by which this model classifies; None for a model that classifies by prompts alone."""
        return self.second_stage or (self.model if self.is_head else None)

    @property
    def is_head(self) -> bool:
        """True for a head on the vectors of a backbone that stays as it is, which is no CLIP."""
        return runs_no_model(self.model.facts.method)

    @property
    def tower_wise_ft(self) -> float:
        """A second stage was trained on the vectors of the tower as it was trained, and is used with that."""
        return 1.0 if self.second_stage else self.wise_ft

    @property
    def method(self) -> str:
        return self.model.facts.method + (" + head" if self.second_stage else "")

    def told(self) -> str:
        """The weight and its reason, for the user."""
        return f"WiSE-FT weight {self.wise_ft:g}, {self.reason}"

    def values(self) -> dict[str, Any]:
        """What `line` tells, for programs."""
        names = ("arm", "uri", "wise_ft", "reason", "scores")
        return {name: getattr(self, name) for name in names} | {"method": self.method}

    def line(self) -> str:
        """One line of a list of models."""
        means = {
            row["dataset"]: row["value"] for row in self.scores if (row["task"], row["metric"]) == ("mean", "top1")
        }
        scored = ", ".join(f"{name} {100 * value:.1f} %" for name, value in means.items()) or "not scored"
        return f"{self.arm or self.uri}: {self.method}, {self.told()}; top-1: {scored}"


def customised(backbone: BackboneConfig, model: Artifact[ModelFacts]) -> BackboneConfig:
    """The backbone with the weights that `model` has trained; the backbone itself if `model` is a head on its
    vectors."""
    gated = "" if runs_no_model(model.facts.method) else join(model.uri, GATED_FILE)
    return backbone.model_copy(update={"gated": gated})


def is_trained(uri: str) -> bool:
    """True for a place that holds the finished model of a run; no request is made for what is no path."""
    is_path = "/" in uri or os.path.isdir(uri)
    return is_path and not uri.endswith((*WEIGHT_FILES, ".json")) and bool(_models(uri))


def trained_models(uri: str, wise_ft: float | None = None) -> list[TrainedModel]:
    """All finished models there, in the order of their arms' names. ArtifactMissing if there are none."""
    found = _models(uri)
    if not found:
        raise ArtifactMissing(
            f"{open_storage(uri).uri}: no finished model here; name the folder of a run, or run `react-ray customize "
            "RECIPE` first"
        )
    return [one for arm, place in found.items() for one in _with_head(place, arm, wise_ft)]


def find_trained(uri: str, arm: str = "", wise_ft: float | None = None) -> TrainedModel:
    """The model of a run; ConfigError lists the arms if there are several and none is chosen.

    wise_ft: None = the weight with which the model was scored.
    """
    found = trained_models(uri, wise_ft)
    chosen = [one for one in found if one.arm == arm or not (arm or one.second_stage)]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(one.arm or one.uri for one in found)
    if arm:
        raise ConfigError(f"{uri} has no finished model of an arm {arm}; choose one of {names}")
    raise ConfigError(f"{uri} has {len(found)} models; choose an arm: {names}")


def require_clip(found: TrainedModel) -> None:
    """BackboneError for a head on stored vectors."""
    if found.is_head:
        raise BackboneError(
            f"{found.uri} is a head ({found.method}) on the vectors of {found.model.facts.backbone['name']}, whose "
            "weights stay as they are; load the head with react_ray.load_head, and the model by its own name"
        )


def _models(uri: str) -> dict[str, str]:
    """{arm: URI of its finished model}"""
    storage = open_storage(uri)
    if storage.exists(MANIFEST):
        return {_arm_of(storage.uri): storage.uri}
    alone = f"model/{MANIFEST}"
    found = {_arm_of(join(storage.uri, "model")): join(storage.uri, "model")} if storage.exists(alone) else {}
    for path in storage.list("arms"):
        _, arm, *rest = path.split("/")
        if rest == alone.split("/"):
            found[arm] = join(storage.uri, "arms", arm, "model")
    return dict(sorted(found.items()))


def _arm_of(model: str) -> str:
    """The arm in RUN/arms/ARM/model; "" for a model that lies elsewhere."""
    *_, folder, arm, name = ["", "", *model.split("/")]
    return arm if folder == "arms" and name == "model" else ""


def _with_head(place: str, arm: str, wise_ft: float | None) -> list[TrainedModel]:
    """The model there, and its second stage if it has one."""
    model, beside = open_artifact(place, MODEL), place.rpartition("/")[0]
    found = [_trained(model, arm, wise_ft, _scored(model, join(beside, "scores")), None)]
    if open_storage(join(beside, "head")).exists(MANIFEST):
        head = open_artifact(join(beside, "head"), HEAD)
        if head.manifest.parents["model"] == model.content:
            scored = _scored(head, join(beside, "scores_head"))
            found.append(_trained(model, f"{arm}{OF_HEAD}", wise_ft, scored, head))
    return found


def _trained(
    model: Artifact[ModelFacts],
    arm: str,
    wise_ft: float | None,
    found: tuple[float | None, list[dict[str, Any]]],
    head: Artifact[HeadFacts] | None,
) -> TrainedModel:
    """found: the weight at which it was scored, and the scores."""
    scored, scores = found
    if wise_ft is None and scored is not None:
        return TrainedModel(model, arm, scored, "with which its scores were made", scores, head)
    if wise_ft is None:
        told = "as its recipe says, which has not scored it yet"
        return TrainedModel(model, arm, _of_recipe(head or model), told, second_stage=head)
    same = scored == wise_ft
    told = "" if scored is None or same else f"; its scores were made with {scored:g}"
    return TrainedModel(model, arm, wise_ft, f"as you chose{told}", scores if same else [], head)


def _scored(one: Artifact, place: str) -> tuple[float | None, list[dict[str, Any]]]:
    """The weight at which the run's `evaluate` scored a model or a head, and the scores; None if it did not."""
    if not open_storage(place).exists(MANIFEST):
        return None, []
    found = open_artifact(place, PREDICTIONS)
    if found.manifest.parents.get(one.kind.name) != one.content:
        return None, []
    return float(found.manifest.config.get("wise_ft", 1.0)), found.facts.scores


def _of_recipe(model: Artifact) -> float:
    """`evaluate.wise_ft` of the recipe that lies beside the weights; 1 for a head of an earlier version, without
    one."""
    if not model.storage.exists(RECIPE_FILE):
        return 1.0
    values = parse_yaml(model.storage.read(RECIPE_FILE), join(model.uri, RECIPE_FILE))
    section = values.get("evaluate") if isinstance(values, dict) else None
    return typed(section["wise_ft"], float) if isinstance(section, dict) and "wise_ft" in section else 1.0
