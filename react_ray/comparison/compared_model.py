"""ComparedModel: a model as a command line names it, and how it is loaded.

A name is the folder of a run, of one of its arms or of its artifact `model`, a gated.safetensors, a folder that
`react-ray export --layout open_clip` wrote, or an open_clip model, with its weights behind a comma as CLIP_benchmark
writes them: `ViT-B-32,openai`, `react_ViT-B-32,exported.pt`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from react_ray.clip.backbone import Backbone
from react_ray.clip.config import BackboneConfig
from react_ray.clip.identity import WEIGHT_FILES, short_name, tag_of
from react_ray.clip.weights import read_info
from react_ray.errors import ConfigError
from react_ray.gated.load import load_customised
from react_ray.gated.models import load_model
from react_ray.gated.trained import RECIPE_FILE, TrainedModel, is_trained, trained_models
from react_ray.progress import say
from react_ray.storage import local_file


@dataclass(frozen=True)
class ComparedModel:
    short: str  # what it is called in a table, unlike any other
    given: str  # as the user named it
    name: str  # open_clip's name, or the URI of what was trained
    pretrained: str = ""
    wise_ft: float | None = None  # of what was trained; None = the model is none
    is_of_run: bool = False  # `name` is an artifact `model`, beside which the recipe lies

    @property
    def label(self) -> str:
        """With the WiSE-FT weight, where the model is not used as it was trained."""
        return self.short if self.wise_ft in (None, 1) else f"{self.short} (WiSE-FT {self.wise_ft:g})"

    def load(self, device: str | torch.device = "cpu", wise_ft: float | None = None) -> Backbone:
        """wise_ft: instead of the weight of this model, where it was trained."""
        if self.wise_ft is None:
            return load_model(self.name, self.pretrained, device=device)
        return load_customised(self.name, self.wise_ft if wise_ft is None else wise_ft, device=device)


def compared_models(given: Sequence[str]) -> list[ComparedModel]:
    """The models in their order; a run stands for the models of all its arms."""
    found = [model for name in given for model in _models(name)]
    for name, count in Counter((model.name, model.pretrained) for model in found).items():
        if count > 1:
            raise ConfigError(f"compare: {','.join(filter(None, name))} is named twice; name it once")
    shared = {short for short, count in Counter(model.short for model in found).items() if count > 1}
    return [replace(m, short=",".join(filter(None, (m.name, m.pretrained)))) if m.short in shared else m for m in found]


def _models(given: str) -> list[ComparedModel]:
    if is_trained(given):
        return _of_run(given)
    if os.path.isdir(given) and os.path.exists(os.path.join(given, RECIPE_FILE)):
        raise ConfigError(
            f"compare: the run {given} has no finished model; run `react-ray customize RECIPE` first, or name its base "
            "as ViT-B-32,openai"
        )
    if given.endswith(".safetensors") and "," not in given:
        if "backbone_config" in read_info(local_file(given)):
            return [ComparedModel(_last(given), given, given, wise_ft=1.0)]
        raise ConfigError(f"{given} does not say which model it is of; write the model before it: ViT-B-32,{given}")
    name, _, pretrained = given.partition(",")
    if name.endswith(WEIGHT_FILES):
        raise ConfigError(f"{given} is a file of weights; write the model before it: ViT-B-32,{given}")
    config = BackboneConfig(name=name.removeprefix("react_"), pretrained=pretrained)
    prefix = "react_" if name.startswith("react_") else ""
    return [ComparedModel(f"{prefix}{short_name(config)} {tag_of(config)}".strip(), given, name, pretrained)]


def _of_run(uri: str) -> list[ComparedModel]:
    """All models of the run that are a CLIP. ConfigError if there are none."""
    found = trained_models(uri)
    clips = [one for one in found if not one.head]
    if heads := [one.arm or _label(one) for one in found if one.head]:
        told = f"{', '.join(heads)} of {uri}: heads of fixed classes, whose scores `react-ray report` compares"
        if not clips:
            raise ConfigError(f"compare: {told}; name a model that classifies by prompts")
        say(f"compare    {told}; left out here")
    return [ComparedModel(_label(one), uri, one.uri, wise_ft=one.wise_ft, is_of_run=True) for one in clips]


def _label(found: TrainedModel) -> str:
    """The name of the run's folder, and of the arm if there is one."""
    folder = found.uri.removesuffix("/model").removesuffix(f"/arms/{found.arm}" if found.arm else "")
    return "/".join(filter(None, (_last(folder), found.arm)))


def _last(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]
