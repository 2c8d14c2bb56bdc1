"""Finds what is scored under a name: a base, the model of an arm, or the head of an arm's second stage."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.backbone import Backbone
from react_ray.clip.config import BackboneConfig
from react_ray.gated.config import OF_HEAD, runs_no_model
from react_ray.gated.load import load_backbone
from react_ray.gated.trained import customised
from react_ray.gated.wise_ft import interpolate
from react_ray.kinds import HEAD, MODEL
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout, any_customised, models
from react_ray.storage import join
from react_ray.training.head_file import HEAD_FILE


@dataclass(frozen=True)
class ScoredModel:
    backbone: BackboneConfig  # embeds the images
    head: str = ""  # URI of a head that scores them; "" = the class prompts do
    wise_ft: float = 1.0  # of the backbone, between its base and what was trained
    grid: int = 0  # cells per side of which the head sees the patch tokens
    parents: dict[str, Artifact] = field(default_factory=dict)

    def embeds_like(self, other: ScoredModel) -> bool:
        """True if both give an image the same vector."""
        return (self.backbone, self.wise_ft, self.grid) == (other.backbone, other.wise_ft, other.grid)


def scored_models(recipe: Recipe) -> dict[str, ScoredModel]:
    """All models of the table, by the name of the row, in the order of `layout.models`; the bases alone, as long as no
    arm is customised."""
    names = models(recipe) if any_customised(recipe) else recipe.bases()
    return {name: scored_model(recipe, name) for name in names}


def scored_model(recipe: Recipe, name: str) -> ScoredModel:
    """name: as in `Layout.scores`.

    `evaluate.wise_ft` weighs the tower where prompts score, and the head where a head does: the tower of a second stage
    is as it was trained, because the head was trained on the vectors of this tower.
    """
    if name in recipe.bases():
        return ScoredModel(recipe.bases()[name])
    arm = name.removesuffix(OF_HEAD)
    layout, backbone, wise_ft = Layout(recipe, arm), recipe.arm(arm).customized, recipe.evaluate.wise_ft
    model = open_artifact(layout.of_arm("model"), MODEL)
    if name.endswith(OF_HEAD):
        head = open_artifact(layout.of_arm("head"), HEAD)
        parents: dict[str, Artifact] = {"model": model, "head": head}
        grid = recipe.arm(arm).customize.head_grid
        return ScoredModel(customised(backbone, model), join(head.uri, HEAD_FILE), grid=grid, parents=parents)
    if runs_no_model(model.facts.method):
        return ScoredModel(backbone, join(model.uri, HEAD_FILE), parents={"model": model})
    return ScoredModel(customised(backbone, model), wise_ft=wise_ft, parents={"model": model})


def load_scored(model: ScoredModel, seed: int, device: str | torch.device) -> Backbone:
    """The model itself, at its WiSE-FT weight. seed: of the recipe, for random weights."""
    backbone = load_backbone(model.backbone, device=device, seed=seed)
    if model.wise_ft != 1:
        base = load_backbone(model.backbone.model_copy(update={"gated": ""}), seed=seed)
        interpolate(base.model, backbone.model, model.wise_ft)
    return backbone
