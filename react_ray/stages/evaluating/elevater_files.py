"""Writes the probabilities that `evaluate` found as ELEVATER's toolkit combines them into submissions.

Zero-shot probabilities follow from the features; those of what was learned from few labels lie beside its scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import nn

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.prompts import load_tasks
from react_ray.errors import ConfigError
from react_ray.evals.elevater_submission import Submission, toolkit_name
from react_ray.evals.few_shot import FINE_TUNING
from react_ray.evals.fine_tuning import trained_names
from react_ray.evals.metrics import log_softmax
from react_ray.evals.score import ALL_SHOTS
from react_ray.kinds import SCORES, ScoresFacts
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout, shown_name
from react_ray.schema import OK
from react_ray.stages.evaluating.features import class_vectors_of, features_artifact, features_in
from react_ray.stages.evaluating.few_shot_runs import learnings
from react_ray.stages.evaluating.few_shot_work import predictions_of
from react_ray.stages.evaluating.scored_model import load_scored, scored_models
from react_ray.storage import join, open_storage


@dataclass(frozen=True)
class _Entry:
    """What one file is of."""

    draws: Iterable[np.ndarray]  # probabilities [N, C] of each seed
    seeds: list[int]
    method: str = ""  # "" = zero-shot
    shots: int = 0
    setting: str = ""

    @property
    def name(self) -> str:
        """Of its folder, behind the model's name."""
        shots = "full-shot" if self.shots == ALL_SHOTS else f"{self.shots}-shot"
        parts = (self.method, shots, self.setting.replace(" ", "-")) if self.method else ()
        return "".join(f"_{part}" for part in parts if part)


def write_elevater(recipe: Recipe, folder: str) -> list[str]:
    """Writes <model>/<set>.json for each model that scores by prompts and each task that has images, and
    <model>_<method>_<shots>/<set>.json for what was learned from labels.

    Returns their URIs. folder: its URI. ArtifactMissing if the features were deleted; ConfigError as of `_set_of`, or
    if what was learned has no probabilities.
    """
    storage, made = open_storage(folder), list[str]()
    for row, model in scored_models(recipe).items():
        if model.head:
            continue
        set_of, text = _set_of(recipe, row), class_vectors_of(recipe, row)
        backbone = load_scored(model, recipe.seed, "cpu").model
        for task, dataset in set_of.items():
            entries = [_zero_shot(recipe, row, task, dataset, text[task]), *_learned(recipe, row, task, dataset)]
            for entry in entries:
                name = f"{shown_name(row)}{entry.name}/{toolkit_name(task)}.json"
                tower, head = _num_trained(backbone, entry.method, *text[task].shape)
                about = Submission(
                    shown_name(row),
                    toolkit_name(task),
                    num_trainable_params=tower + head,
                    num_params=_num(backbone) + head,
                    num_visual_params=_num(backbone, "visual."),
                    num_backbone_params=_num(backbone),
                    n_shot=entry.shots,
                    rnd_seeds=entry.seeds,
                )
                with storage.writing(name) as file:
                    for piece in about.pieces(entry.draws):
                        file.write(piece)
                made.append(join(folder, name))
    return made


def _set_of(recipe: Recipe, row: str) -> dict[str, str]:
    """Task -> the set that has its images. ConfigError if two sets have images of one task, which would be one file, or
    if an image could not be read, since the toolkit needs a prediction for each of its labels."""
    found: dict[str, str] = {}
    for dataset in recipe.evaluate.datasets:
        table = pa.concat_tables(features_artifact(recipe, row, dataset).tables(["task", "status"]))
        if unreadable := pc.sum(pc.not_equal(table["status"], OK)).as_py():
            raise ConfigError(
                f"evaluate.datasets.{dataset}: {unreadable} of {len(table)} images cannot be decoded, and a "
                "submission to ELEVATER needs a prediction for each; mend the set"
            )
        for task in pc.unique(table["task"]).to_pylist():
            if task in found:
                raise ConfigError(
                    f"evaluate.datasets.{found[task]} and evaluate.datasets.{dataset} both have images of {task}, and "
                    "a submission to ELEVATER has one set for each task; leave one of them out"
                )
            found[task] = dataset
    return found


def _zero_shot(recipe: Recipe, row: str, task: str, dataset: str, text_CD: np.ndarray) -> _Entry:
    """Softmax of 100 cosines."""
    [of] = [one for one in load_tasks(recipe.tasks) if one.name == task]
    image_ND = features_in(pa.concat_tables(features_artifact(recipe, row, dataset).tables()), of).image_ND
    cosine_NC = image_ND.astype(np.float64) @ text_CD.T.astype(np.float64)
    return _Entry([np.exp(log_softmax(cosine_NC).astype(np.float64))], [0])


def _learned(recipe: Recipe, row: str, task: str, dataset: str) -> Iterator[_Entry]:
    if not recipe.evaluate.shots or dataset not in recipe.evaluate.train:
        return
    scores = open_artifact(Layout(recipe).scores_few(row, dataset), SCORES)
    config, wanted = scores.manifest.config, learnings(recipe.evaluate, FINE_TUNING)
    if not config.get("probabilities"):
        raise ConfigError(
            f"{scores.uri} has no probabilities of all classes; set evaluate.probabilities=true and run `react-ray "
            "evaluate RECIPE` again"
        )
    part_of: dict[tuple[str, int], dict[int, int]] = {}  # by method and shots: seed -> part
    for part, (method, shots, seed) in enumerate(config["learnings"]):
        if (method, shots, seed) in wanted:
            part_of.setdefault((method, shots), {})[seed] = part
    for (method, shots), parts in part_of.items():
        first = next(iter(parts.values()))
        for setting in pc.unique(predictions_of(scores, first)["setting"]).to_pylist():
            yield _Entry(_draws(scores, list(parts.values()), task, setting), list(parts), method, shots, setting)


def _draws(scores: Artifact[ScoresFacts], parts: list[int], task: str, setting: str) -> Iterator[np.ndarray]:
    for part in parts:
        table = predictions_of(scores, part)
        table = table.filter(pc.and_(pc.equal(table["task"], task), pc.equal(table["setting"], setting)))
        column = table["class_scores"].combine_chunks()
        yield np.exp(column.flatten().to_numpy().astype(np.float64).reshape(len(column), -1))


def _num_trained(model: nn.Module, method: str, num_classes: int, dim: int) -> tuple[int, int]:
    """Parameters of the tower and of the head that a method trains; a head of probes has a bias."""
    if method in FINE_TUNING:
        return sum(model.get_parameter(name).numel() for name in trained_names(model, method)), num_classes * dim
    return 0, num_classes * (dim + 1) if method.endswith("probe") else 0


def _num(model: nn.Module, prefix: str = "") -> int:
    return sum(value.numel() for name, value in model.named_parameters() if name.startswith(prefix))
