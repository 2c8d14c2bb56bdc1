"""Names of labelled sets: those of `evaluate.datasets` stand as they are, those of `evaluate.train` after `train.`."""

from __future__ import annotations

TRAIN = "train."
LABELLED = "customize.labelled"  # a field of its own, whose set needs no other name


def training_set(dataset: str) -> str:
    """The name of the images that are learned from for a set of evaluate.datasets."""
    return TRAIN + dataset


def field_of(name: str) -> str:
    """The field of the recipe that gives the set, for messages."""
    if name == LABELLED:
        return name
    return f"evaluate.{name}" if name.startswith(TRAIN) else f"evaluate.datasets.{name}"
