"""EvaluateConfig: on which sets, and by which protocols, `evaluate` scores the models of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from react_ray.evals.few_shot import ShotMethod
from react_ray.evals.other_sets import OtherSets
from react_ray.evals.set_name import check_set_name, training_set
from react_ray.section import field, speed


class EvaluateConfig(OtherSets):
    datasets: dict[str, str] = field(
        {},
        "name -> URI of labelled images: Parquet or Arrow with columns image, label (class names, or positions in the "
        "class list) and task (not needed if the recipe has one task), a folder with one folder of images per class, "
        "WebDataset tars (.cls), or a csv of path and label beside its images",
    )
    train: dict[str, str] = speed(
        {},
        "name in datasets -> URI of labelled images in the same forms, from which classifiers are learned for that set",
    )
    shots: list[Annotated[int, Field(ge=1)] | Literal["all"]] = speed(
        [],
        "images of each class to learn from, a result for each number (all = all of `train`); empty = none are learned",
    )
    shot_methods: list[ShotMethod] = speed(
        ["linear-probe", "anchored-probe", "tip-adapter"], "how classifiers are learned from the shots", min_length=1
    )
    shot_seeds: list[Annotated[int, Field(ge=0)]] = speed([0, 1, 2], "a draw of the shots for each", min_length=1)
    probabilities: bool = speed(
        False,
        "keep the probabilities of all classes of what few labels teach; `evaluate --elevater` sets it and writes them",
    )
    wise_ft: float = field(
        1.0, "score customised models at this weight between the backbone (0) and the trained model (1)", ge=0, le=1
    )
    headline: str = speed("test", "dataset whose top-1 accuracy the report and summary.json show")
    off_target: list[str] = speed(
        [], "names in datasets that models were not customised for; the report says first what was lost on these"
    )
    other_runs: list[str] = speed(
        [], "URIs of finished runs of this recipe with other seeds; the report then shows mean and standard deviation"
    )
    pixel_pairs: int = speed(
        20_000,
        "most retrieved pairs that the row of 1-NN on 16x16 pixels compares with, all if there are no more; 0 = no row",
        ge=0,
        le=1_000_000,
    )
    pixel_knn: str = speed(
        "", "folder with the files of react_ray/sample, for a row of 1-NN on 16x16 pixels with labels; empty = no row"
    )
    max_unreadable: float = speed(
        0.0,
        "refuse the scores of a set of which more than this share of images cannot be decoded; they count as wrong",
        ge=0,
        le=1,
    )
    batch_size: int = speed(256, "images per forward pass, halved when memory runs out", ge=1)

    @field_validator("datasets", "train", "captions", "segmentation", "detection", "proposals")
    @classmethod
    def _names_can_be_folders(cls, sets: dict[str, str]) -> dict[str, str]:
        for name in sets:
            check_set_name(name)
        return sets

    @model_validator(mode="after")
    def _off_target_sets_are_known(self) -> Self:
        if unknown := [name for name in self.off_target if name not in self.datasets]:
            raise ValueError(
                f"off_target: {unknown[0]} is no set of evaluate.datasets ({', '.join(self.datasets) or 'empty'}); "
                "add it there, or leave it out"
            )
        if self.headline in self.off_target:
            raise ValueError(f"off_target: {self.headline} is the headline; name another set as evaluate.headline")
        return self

    @model_validator(mode="after")
    def _shots_are_drawn_for_sets(self) -> Self:
        if unknown := sorted(self.train.keys() - self.datasets.keys()):
            raise ValueError(
                f"train.{unknown[0]} is no set of evaluate.datasets ({', '.join(self.datasets) or 'empty'}); name the "
                "training images as the set on which they are tested"
            )
        if taken := [name for name in self.train if training_set(name) in self.datasets]:
            raise ValueError(f"datasets.{training_set(taken[0])} has the name of the set to train on; rename it")
        if self.shots and not self.train:
            raise ValueError("shots are drawn from evaluate.train, which is empty; name labelled images there")
        return self

    @property
    def uris(self) -> list[str]:
        """The places of all sets that are scored; none if there is nothing to evaluate on."""
        return [uri for sets in (self.datasets, *self.other_sets.values()) for uri in sets.values()]
