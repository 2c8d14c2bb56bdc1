"""The probabilities of one model on one set, in the JSON that ELEVATER's toolkit combines into a submission.

Facts of the toolkit (Elevater_Toolkit_IC, vision_benchmark/commands/zeroshot.py and prepare_submit.py): a file for each
set of one model, probabilities with six digits, and the sets' names in its resources/datasets/*.yaml.
"""

from __future__ import annotations

import json

import numpy as np
from torch import nn

from react_ray.evals.metrics import log_softmax

DIGITS = 6
# Where the toolkit's name of a set is not that of the built-in task.
TOOLKIT_NAMES = {
    "eurosat": "eurosat_clip",
    "fgvc-aircraft": "fgvc-aircraft-2013b-variants102",
    "resisc45": "resisc45_clip",
    "voc-2007": "voc-2007-classification",
}


def toolkit_name(task: str) -> str:
    return TOOLKIT_NAMES.get(task, task)


def submission(image_ND: np.ndarray, text_CD: np.ndarray, model: nn.Module, model_name: str, task: str) -> bytes:
    """JSON of the zero-shot probabilities, softmax(100 cosine), of the images in their order.

    image_ND: float16 or float32 unit rows, all finite. text_CD: float32 unit rows. model: whose parameters are counted.
    """
    assert np.isfinite(image_ND).all(), "the toolkit counts predictions against its own labels"
    cosine_NC = image_ND.astype(np.float64) @ text_CD.T.astype(np.float64)
    probability_NC = np.exp(log_softmax(cosine_NC).astype(np.float64)).round(DIGITS)
    num_params = sum(parameter.numel() for parameter in model.parameters())
    num_visual = sum(value.numel() for name, value in model.named_parameters() if name.startswith("visual."))
    return json.dumps(
        {
            "model_name": model_name,
            "dataset_name": toolkit_name(task),
            "num_trainable_params": 0,
            "num_params": num_params,
            "num_visual_params": num_visual,
            "num_backbone_params": num_params,
            "n_shot": 0,
            "rnd_seeds": [0],
            "predictions": [probability_NC.tolist()],
        }
    ).encode()
