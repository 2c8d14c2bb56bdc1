"""Refuses a training that cannot change its model: whose gates stay shut, or whose weights stay where they are.

A gate starts at zero, and its tanh is the share of the new block's output that is added. AdamW moves a parameter by
about its learning rate per step, so the sum of the learning rates bounds how far a gate opens and a weight moves.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from react_ray.counted import counted
from react_ray.errors import ConfigError
from react_ray.gated.config import CustomizeConfig
from react_ray.training.schedule import num_steps, sum_of_rates

# tanh(gate). The gates of the demo open as far as the rates allow up to 0.2, and stop between 0.2 and 0.5.
SHUT, NARROW = 0.05, 0.2
# The movement of a weight, relative to the spread of CLIP's weights.
STILL, SLOW = 0.001, 0.01
SPREAD = 0.02  # standard deviation of the matrices of OpenAI's ViT-B/32, about
SMALLEST_BATCH, MOST_EPOCHS = 16, 1000


def reach(config: CustomizeConfig, num_pairs: int) -> float:
    """How far the training can get at most: tanh of a gate, or the movement of a weight relative to SPREAD.

    config: as from `from_data`.
    """
    moved = sum_of_rates(num_steps(config, num_pairs), config)
    return math.tanh(moved * config.gate_lr_scale) if _gated(config) else moved / SPREAD


def check_movement(config: CustomizeConfig, num_pairs: int, where: str = "customize") -> str:
    """Raises ConfigError if the model would stay as it is; returns a line if it can hardly change, "" if it can.

    config: as from `from_data`. num_pairs: an upper bound will do, because fewer pairs are fewer steps. where: the name
    of the training, for the error.
    """
    if num_pairs < config.batch_size:
        return ""  # no step at all: check_batch_size refuses it
    refused, slow = (SHUT, NARROW) if _gated(config) else (STILL, SLOW)
    found = reach(config, num_pairs)
    if found >= slow:
        return ""
    remedy = " or ".join(_remedies(config, num_pairs, slow))
    steps = num_steps(config, num_pairs)
    of = f"{counted(steps, 'step')} of {counted(num_pairs, 'pair')}"
    if _gated(config):
        said = f"in {of} the gates, which start at 0, can open to {found:.2g} at most"
    else:
        said = f"in {of} no weight can move by more than {100 * found:.2g} % of the weights' spread"
    if found < refused:
        raise ConfigError(f"{where}: {said}, so the model would stay as it is; set {remedy}")
    return f"{said}; for more, set {remedy}"


def _remedies(config: CustomizeConfig, num_pairs: int, wanted: float) -> list[str]:
    """For each field that can mend it alone, its nearest value that does, as `customize.field=value`."""

    def mends(**change: float) -> bool:
        return reach(config.model_copy(update=change), num_pairs) >= wanted

    found = []
    batches = [2**power for power in range(12, 3, -1) if SMALLEST_BATCH <= 2**power < config.batch_size]
    found += [f"batch_size={size}" for size in batches if mends(batch_size=size)][:1]
    if mends(epochs=MOST_EPOCHS):
        epochs = range(math.ceil(config.epochs), MOST_EPOCHS + 1)
        found += [f"epochs={epochs[bisect_left(epochs, True, key=lambda number: mends(epochs=number))]}"]
    if _gated(config):
        scale = config.gate_lr_scale * math.atanh(wanted) / math.atanh(reach(config, num_pairs))
        found += [f"gate_lr_scale={math.ceil(scale)}"]
    else:
        found += [f"lr={_two_digits(config.lr * wanted / reach(config, num_pairs))}"]
    return [f"customize.{one}" for one in found]


def _two_digits(value: float) -> str:
    """Rounded up to two digits."""
    power = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / power - 1e-9) * power:.2g}"


def _gated(config: CustomizeConfig) -> bool:
    return config.method == "gated-image"
