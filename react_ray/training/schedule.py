"""The schedule of a training: its batch, epochs, warm-up and learning rates, as far as they follow from the pairs.

Takes a CustomizeConfig and the number of pairs, gives the config with a number in every field, the steps, and the
learning rate of each. REACT trained with batches of 4,096 for 32 epochs on 8.5 million pairs. Fewer pairs get smaller
batches, so that the epochs hold enough steps for the gates to open. This file imports no torch.
"""

from __future__ import annotations

import math

from react_ray.counted import counted
from react_ray.gated.config import CustomizeConfig, Method

# As published (README of REACT): 4,096 pairs a step, 32 epochs, 5,000 steps of warm-up, 5e-4, for locked-text 5e-5.
BATCH_SIZE, EPOCHS, WARMUP_STEPS = 4096, 32.0, 5000
LR, LR_OF_TOWERS = 5e-4, 5e-5
OF_TOWERS: tuple[Method, ...] = ("locked-text", "locked-image", "full")  # whose own weights train, not new ones

SMALLEST_BATCH = 32
STEPS_PER_EPOCH = 32  # about, for fewer than 100,000 pairs
GATES_OPEN_TO = 1.0  # what a gate can reach, before the tanh; trained gates of the demo stop between 0.2 and 0.5
MOST_GATE_LR_SCALE = 10.0


FIELDS = ("batch_size", "epochs", "warmup_steps", "lr", "gate_lr_scale")


def from_data(config: CustomizeConfig, num_pairs: int) -> CustomizeConfig:
    """`config` with a number in each field that was left to the data: a function of (config, num_pairs) alone.

    Fields that were given stay as they are. num_pairs: of all classes.
    """
    given = config.model_copy(
        update={
            "batch_size": config.batch_size or batch_size_for(num_pairs),
            "epochs": config.epochs or EPOCHS,
            "lr": config.lr or (LR_OF_TOWERS if _tunes(config) else LR),
        }
    )
    if config.warmup_steps < 0:
        warmup_steps = min(WARMUP_STEPS, num_steps(given, num_pairs) // 10)
        given = given.model_copy(update={"warmup_steps": warmup_steps})
    return given.model_copy(update={"gate_lr_scale": config.gate_lr_scale or _gate_lr_scale(given, num_pairs)})


def schedule_of(config: CustomizeConfig) -> dict[str, float]:
    """The values of FIELDS, for the description of a model."""
    return {name: getattr(config, name) for name in FIELDS}


def batch_size_for(num_pairs: int) -> int:
    """The power of two nearest to a 32nd of the pairs, 32 to 4,096; of fewer than 128 pairs, a quarter of them."""
    nearest = 2 ** round(math.log2(max(1, num_pairs / STEPS_PER_EPOCH)))
    most = 2 ** int(math.log2(max(2, num_pairs // 4)))
    return min(max(nearest, SMALLEST_BATCH), BATCH_SIZE, most)


def num_steps(config: CustomizeConfig, num_pairs: int) -> int:
    """The steps of a training; an epoch has as many as there are whole batches. config: as from `from_data`."""
    return max(1, round(config.epochs * (num_pairs // config.batch_size)))


def learning_rate(step: int, total: int, config: CustomizeConfig) -> float:
    """The factor of the peak rate at step 0 .. total - 1: linear warm-up, then cosine to zero.

    A training that is shorter than its warm-up warms up over a tenth of its steps.
    """
    warmup = _warmup(total, config)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def sum_of_rates(total: int, config: CustomizeConfig) -> float:
    """The sum of `lr` times `learning_rate` over all steps, which is about the most that AdamW moves a weight.

    AdamW moves a weight by at most about its learning rate per step (Kingma and Ba 2015, section 2.1).
    """
    warmup = _warmup(total, config)
    return config.lr * ((warmup + 1) * (warmup > 0) + total - warmup + 1) / 2


def described(config: CustomizeConfig, num_pairs: int) -> str:
    """The schedule in a line. config: as from `from_data`."""
    total = num_steps(config, num_pairs)
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs:g} epochs"
    gates = f", gates x {config.gate_lr_scale:g}" if config.method == "gated-image" else ""
    return (
        f"{counted(num_pairs, 'pair')}, {epochs} in batches of {config.batch_size:,}: {counted(total, 'step')}, "
        f"{_warmup(total, config):,} of them warm-up, learning rate {config.lr:g}{gates}"
    )


def _tunes(config: CustomizeConfig) -> bool:
    """True if trained weights train further; a training on the source may begin with random ones."""
    return config.method in OF_TOWERS and config.train_on == "retrieved"


def _warmup(total: int, config: CustomizeConfig) -> int:
    return config.warmup_steps if config.warmup_steps < total else total // 10


def _gate_lr_scale(config: CustomizeConfig, num_pairs: int) -> float:
    """1 where the steps suffice for the gates to open, as in REACT; larger where they are too few."""
    if config.method != "gated-image" or num_pairs < config.batch_size:
        return 1.0
    reach = sum_of_rates(num_steps(config, num_pairs), config)
    return round(min(max(1.0, GATES_OPEN_TO / reach), MOST_GATE_LR_SCALE), 1)
