"""Score: one figure of one protocol, whatever it measures. schema.SCORES holds the same columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from react_ray import schema

ALL_SHOTS = -1
ALL_SETS = "all sets"  # of the mean over sets of one task each
ZERO_SHOT = "zero-shot"  # classification without labels: by prompts, by what was retrieved, or by pixels
IMAGE_TEXT_RETRIEVAL = "image-text-retrieval"
SEGMENTATION = "segmentation"
DETECTION = "detection"
COLLAPSED = "collapsed"  # a metric that tells of a training: 1 where it made the classifier worse


class Score(NamedTuple):
    protocol: str  # such as "zero-shot", "linear-probe", "segmentation"
    model: str
    dataset: str
    task: str
    metric: str  # such as "top1", "mean_per_class", "image_retrieval_recall@5", "miou"
    value: float  # in [0, 1]
    num: int  # of what was averaged: images, texts, boxes
    shots: int = 0  # labelled images of each class that were learned from; ALL_SHOTS = all
    seed: int = 0
    setting: str = ""  # what else tells two figures of one metric apart, such as "best epoch on the test set"


Place = tuple[str, str, str, str, str, str]


def place_of(score: Score) -> Place:
    """What tells the figures of one run apart, whatever the shots and the seed."""
    return score.protocol, score.model, score.dataset, score.task, score.metric, score.setting


def score_table(scores: Iterable[Score]) -> pa.Table:
    return pa.Table.from_pylist([score._asdict() for score in scores], schema=schema.SCORES)
