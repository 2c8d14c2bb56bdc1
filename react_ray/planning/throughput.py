"""Measures in some seconds what this machine needs to read, embed and train, on the first rows of the source.

Takes a recipe and a Sample, gives Rates in seconds of one core, which depend little on what else the machine does, or
in seconds of a GPU. What could not be measured is None, with the reason. Speed does not depend on the values of
weights, so random ones do, and nothing is downloaded. `stated` gives rates without measuring: counted operations at a
stated speed. Next: database.py and run_stages.py, which use the rates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from react_ray.clip.architecture import empty_model, num_parameters, settled
from react_ray.clip.backbone import Backbone
from react_ray.clip.config import RANDOM, BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.errors import ReactRayError, ResourceError
from react_ray.gated.config import runs_no_model
from react_ray.gated.load import load_backbone
from react_ray.gated.method import prepare, resolved
from react_ray.index.plan import FLOP_PER_S
from react_ray.planning.machine import Machine
from react_ray.planning.survey import SAMPLE_ROWS, Sample
from react_ray.recipe import Recipe
from react_ray.training.batches import Batch
from react_ray.training.class_loss import ClassTargets
from react_ray.training.optim import make_optimizer
from react_ray.training.schedule import from_data
from react_ray.training.step import TrainingStep

LIMIT_S = 20.0  # of a core, after which nothing further is begun
ENOUGH_S = 0.6  # of one measurement
ROOM = 0.4  # of the free memory that a measurement may take
PAIRS_OF_STEP = 32  # in the largest step that is tried
BACKWARD = 2.0  # forward passes that a backward pass through the whole model takes
CHARACTERS = 4  # of a token, about
PROMPT = "a photo of a heron"
LATE = "not measured: the 20 seconds for it were over"
NOT_TRIED = "not measured"


@dataclass(frozen=True)
class ModelRates:
    """Seconds of one model on one core, or on a GPU."""

    image_s: float  # per image: decoding and embedding
    text_s: float  # per caption or prompt
    pair_s: float = 0.0  # per pair of a training step
    optimizer_s: float = 0.0  # per step


@dataclass
class Rates:
    """What was measured, or stated."""

    how: str  # a clause about all of them
    read_s: float | None = None  # per row, of one core: reading, checking and hashing
    flop_per_s: float | None = None  # of float32 matrix products on one core
    backbone: ModelRates | None = None
    arms: dict[str, ModelRates] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # arm, or "" for the backbone -> why it has no rates


def measure(recipe: Recipe, sample: Sample, machine: Machine, limit_s: float = LIMIT_S) -> Rates:
    """Nothing further is begun once the limit has passed."""
    end, before = time.process_time() + limit_s, torch.get_num_threads()
    rates = Rates(_told(sample), sample.read_s or None)
    try:
        torch.set_num_threads(1)
        rates.flop_per_s = _flop_per_s()
        _backbone(recipe, sample, machine, rates)
        _arms(recipe, sample, machine, rates, end)
    finally:
        torch.set_num_threads(before)
    return rates


def stated(recipe: Recipe, sample: Sample, machine: Machine) -> Rates:
    """Rates of counted operations at FLOP_PER_S per core, as index/plan.py states it; None for a GPU."""
    rates = Rates(f"counted operations at {FLOP_PER_S / 1e9:g} GFLOP/s per core, without decoding", None, FLOP_PER_S)
    if machine.gpu and (recipe.cluster.gpus_per_actor or recipe.customize.gpus_per_worker):
        rates.missing = dict.fromkeys(["", *recipe.arm_names()], "the speed of a GPU is measured, not stated")
        return rates
    try:
        rates.backbone = _stated(recipe.backbone, sample)
    except ReactRayError as error:
        rates.missing[""] = str(error)
    for arm in recipe.arm_names():
        try:
            rates.arms[arm] = _stated(recipe.arm(arm).customized, sample)
        except ReactRayError as error:
            rates.missing[arm] = str(error)
    return rates


def _told(sample: Sample) -> str:
    if sample.images:
        return f"tried here with {len(sample.images)} images of the source"
    return "tried here on grey images, decoding not counted"


def _flop_per_s() -> float:
    """Of products of 1,024 x 1,024 matrices."""
    one = torch.rand(1024, 1024)
    return 2 * 1024**3 / _seconds(lambda: one @ one, 0.3)


def _backbone(recipe: Recipe, sample: Sample, machine: Machine, rates: Rates) -> None:
    try:
        backbone = _random(recipe.backbone, machine)
    except ReactRayError as error:
        rates.missing[""] = str(error)
        return
    rates.backbone = _embedding(backbone, recipe, sample, machine)


def _embedding(backbone: Backbone, recipe: Recipe, sample: Sample, machine: Machine) -> ModelRates:
    embedder = Embedder(backbone, recipe.embed.batch_size, machine.device(recipe.cluster.gpus_per_actor))
    side = backbone.image_size

    def of_images(number: int) -> None:
        if sample.images:
            pixels, _ = embedder.decode([sample.images[n % len(sample.images)] for n in range(number)])
        else:
            pixels = np.full((number, 3, side, side), 127, np.uint8)
        embedder.image_vectors(pixels)

    texts = list(dict.fromkeys(sample.captions)) or [PROMPT]
    most, clock = min(SAMPLE_ROWS, recipe.embed.batch_size), _clock(embedder.device.type)
    text_s = _per_row(lambda number: embedder.text_vectors(_distinct(texts, number)), most, clock)
    return ModelRates(_per_row(of_images, most, clock), text_s)


def _arms(recipe: Recipe, sample: Sample, machine: Machine, rates: Rates, end: float) -> None:
    """One step of each arm's training on few images, and its model; arms that train alike are measured once."""
    known: dict[str, ModelRates] = {}
    for arm in recipe.arm_names():
        wanted = recipe.arm(arm)
        config = wanted.customize
        if runs_no_model(config.method):
            continue
        alike = {**config.digested(), **dict.fromkeys(("epochs", "lr", "gate_lr_scale", "warmup_steps", "batch_size"))}
        key = str([wanted.customized, alike])
        if key not in known and time.process_time() > end:
            rates.missing[arm] = LATE
            continue
        try:
            if key not in known:
                known[key] = _training(wanted, sample, machine)
            rates.arms[arm] = known[key]
        except ReactRayError as error:
            rates.missing[arm] = str(error)


def _training(wanted: Recipe, sample: Sample, machine: Machine) -> ModelRates:
    backbone = _random(wanted.customized, machine)
    config = resolved(wanted.customize, wanted.customized.name, backbone.model)
    prepare(backbone.model, config, 0)
    as_scored = _embedding(backbone, wanted, sample, machine)
    device = machine.device(config.gpus_per_worker)
    backbone.model.to(device).train()
    generator, side = np.random.default_rng(0), backbone.image_size
    class_CD = generator.normal(size=(8, backbone.dim)).astype(np.float32)
    classes = ClassTargets(class_CD, np.zeros(len(class_CD), np.int64))

    def of_pairs(number: int) -> None:
        batch = Batch(
            step=0,
            epoch=0,
            image_BCHW=generator.integers(0, 256, (number, 3, side, side), np.uint8),
            captions=["a photo of a heron by the water"] * number,
            caption_id_B=np.arange(number),
            class_id_B=np.arange(number) % len(class_CD),
            pair_id_B=np.arange(number),
            text_BD=generator.normal(size=(number, backbone.dim)).astype(np.float16),
        )
        small = config.model_copy(update={"batch_size": number, "compile": False, "micro_batch_size": 0})
        TrainingStep(backbone, small, 0, classes=classes)(batch).backward()

    pair_s = _per_row(of_pairs, PAIRS_OF_STEP, _clock(device))
    optimizer = make_optimizer(backbone.model, from_data(config, PAIRS_OF_STEP))
    return ModelRates(as_scored.image_s, as_scored.text_s, pair_s, _seconds(optimizer.step, 0.1, _clock(device)))


def _random(config: BackboneConfig, machine: Machine) -> Backbone:
    """The model with random weights. ReactRayError if it would not fit, or if its architecture is not known here."""
    config = settled(config).model_copy(update={"pretrained": RANDOM, "gated": ""})
    needed = 4 * num_parameters(config)
    if 3 * needed > ROOM * machine.free_memory:
        raise ResourceError(f"not measured: {needed / 2**30:.1f} GB of weights are too many to try out here")
    return load_backbone(config)


def _stated(config: BackboneConfig, sample: Sample) -> ModelRates:
    model: Any = empty_model(settled(config).name)
    side = model.visual.image_size
    size = side if isinstance(side, tuple) else (side, side)
    tower = model if hasattr(model, "context_length") else model.text
    image = _flops(lambda: model.encode_image(torch.empty(1, 3, *size, device="meta")))
    text: float = _flops(
        lambda: model.encode_text(torch.zeros(1, tower.context_length, dtype=torch.long, device="meta"))
    )
    tokens = [min(2 + len(text) / CHARACTERS, tower.context_length) for text in sample.captions or [PROMPT]]
    text *= sum(tokens) / len(tokens) / tower.context_length  # batches are cut at their longest text
    return ModelRates(*(flops / FLOP_PER_S for flops in (image, text, (1 + BACKWARD) * image)))


def _flops(forward: Callable[[], Any]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops()


def _clock(device: str) -> Callable[[], float]:
    """Seconds of this process on its core; of a GPU, seconds on the wall once it has done what it was asked."""
    if device == "cpu":
        return time.process_time

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def _per_row(work: Callable[[int], Any], most: int, clock: Callable[[], float]) -> float:
    """Seconds per row of ever larger batches up to `most` rows; the best of them counts."""
    number, best, end = min(2, most), float("inf"), clock() + ENOUGH_S
    work(number)  # the first call allocates and loads
    while True:
        began = clock()
        work(number)
        seconds = clock() - began
        best = min(best, seconds / number)
        if clock() > end:
            return best
        number = min(most, 4 * number)


def _seconds(work: Callable[[], Any], at_least_s: float, clock: Callable[[], float] = time.process_time) -> float:
    """Per call, after a first one, which allocates."""
    work()
    began, times = clock(), 0
    while clock() - began < at_least_s:
        work()
        times += 1
    return (clock() - began) / times


def _distinct(texts: list[str], number: int) -> list[str]:
    """As many different texts, since the embedder passes each but once."""
    return [f"{texts[n % len(texts)]}{f' {n}' if n >= len(texts) else ''}" for n in range(number)]
