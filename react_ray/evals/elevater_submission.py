"""The probabilities of one model on one set, in the JSON that ELEVATER's toolkit combines into a submission.

Facts of the toolkit (Elevater_Toolkit_IC, vision_benchmark/commands/zeroshot.py and prepare_submit.py): a file for each
set of one model, probabilities with six digits for each seed, and the sets' names in its resources/datasets/*.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

DIGITS = 6
# Where the toolkit's name of a set is not that of the built-in task.
TOOLKIT_NAMES = {
    "eurosat": "eurosat_clip",
    "fgvc-aircraft": "fgvc-aircraft-2013b-variants102",
    "resisc45": "resisc45_clip",
    "voc-2007": "voc-2007-classification",
}


@dataclass(frozen=True)
class Submission:
    """What a file says of its predictions, by the toolkit's names."""

    model_name: str
    dataset_name: str
    num_trainable_params: int
    num_params: int
    num_visual_params: int
    num_backbone_params: int
    n_shot: int  # ALL_SHOTS = full shot, 0 = zero-shot
    rnd_seeds: list[int]

    def pieces(self, draws: Iterable[np.ndarray]) -> Iterator[bytes]:
        """The JSON, of which one draw is in memory at a time. draws: of each seed [N, C], in the order of the set."""
        yield json.dumps(asdict(self))[:-1].encode() + b', "predictions": ['
        for number, probability_NC in enumerate(draws):
            yield b"], [" if number else b"["
            assert np.isfinite(probability_NC).all(), "the toolkit counts predictions against its own labels"
            for row, probability_C in enumerate(probability_NC.astype(np.float64).round(DIGITS).tolist()):
                yield (", " if row else "").encode() + json.dumps(probability_C).encode()
        yield b"]]}"


def toolkit_name(task: str) -> str:
    return TOOLKIT_NAMES.get(task, task)
