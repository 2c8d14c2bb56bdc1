"""Lists the places of all files that an evaluation reads, so that a change of one of them is noticed."""

from __future__ import annotations

from react_ray.evals.box_set import images_below
from react_ray.evals.config import EvaluateConfig
from react_ray.evals.karpathy import files_of
from react_ray.evals.mask_set import divide


def set_places(config: EvaluateConfig) -> list[str]:
    """Returns URIs of files and folders, without the split that may stand behind one."""
    return [
        *config.datasets.values(),
        *config.train.values(),
        *map(files_of, config.captions.values()),
        *(divide(uri)[0] for uri in config.segmentation.values()),
        *(place for uri in config.detection.values() for place in (uri, images_below(uri))),
        *config.proposals.values(),
    ]
