"""Checks, before anything is trained, the sets of protocols other than classification.

check_set in labelled.py does the same for labelled sets.
"""

from __future__ import annotations

from collections.abc import Sequence

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.box_set import open_boxes
from react_ray.evals.captioned import check_captioned
from react_ray.evals.config import EvaluateConfig
from react_ray.evals.mask_set import open_masks
from react_ray.evals.task_of_set import task_of_set


def check_other_sets(asked: EvaluateConfig, tasks: Sequence[TargetTask]) -> None:
    """ConfigError or StorageError for the first set that cannot be read or does not fit its task."""
    for name, uri in asked.captions.items():
        check_captioned(uri, f"evaluate.captions.{name}", asked.max_unreadable)
    for name, uri in asked.segmentation.items():
        whose = f"evaluate.segmentation.{name}"
        open_masks(uri, whose, task_of_set(tasks, name, whose))
    if unknown := sorted(asked.proposals.keys() - asked.detection.keys()):
        raise ConfigError(
            f"evaluate.proposals.{unknown[0]}: evaluate.detection has no set of this name, only "
            f"{', '.join(asked.detection) or 'none'}; give the proposals the name of their set"
        )
    for name, uri in asked.detection.items():
        whose = f"evaluate.detection.{name}"
        open_boxes(uri, whose, task_of_set(tasks, name, whose), asked.proposals.get(name, ""))
