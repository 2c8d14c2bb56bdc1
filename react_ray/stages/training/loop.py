"""What runs on every training worker: model, data, DeepSpeed engine, the loop.

Deterministic for (recipe, seed, number of workers): a batch is a function of its step, augmentation of (seed,
step, place in the batch), so a resumed run repeats the undisturbed one bit for bit on CPU; with another number of workers
up to the order of sums. Next: training/loss.py.
"""

from __future__ import annotations

import math
import os
import time
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from torch import Tensor

from react_ray.clip.text import drop_text_tower
from react_ray.errors import TrainingDiverged
from react_ray.evals.zeroshot import MEAN
from react_ray.gated.card import json_bytes, model_card
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.config import CustomizeConfig, needs_text_tower
from react_ray.gated.load import load_backbone
from react_ray.gated.method import frozen_sha256, prepare
from react_ray.progress import Metrics
from react_ray.stages.training.checkpoints import Checkpoints
from react_ray.stages.training.job import Job
from react_ray.stages.training.loader_actors import iterate
from react_ray.stages.training.online_eval import Scores, wait_for
from react_ray.stages.training.zero_state import (
    clamp_temperature,
    frozen_digest,
    load_moments,
    load_weights,
    optimizer_step,
    trained_weights,
    training_state,
)
from react_ray.storage import join, open_storage
from react_ray.training.auto_augment import AutoAugment
from react_ray.training.batches import Batch, Batches
from react_ray.training.deepspeed_config import deepspeed_config
from react_ray.training.metrics import TensorBoard, Watch
from react_ray.training.optim import Ema, learning_rate, make_optimizer, set_learning_rate
from react_ray.training.step import TrainingStep, diverged
from react_ray.training.trackers import open_trackers

DIVERGED = "diverged.json"  # beside the checkpoints
AVERAGE = "average/"  # in front of the names of an exponential moving average


def train_worker(settings: dict[str, Any]) -> None:
    """Trains the models of `settings["jobs"]` one after another; those that were finished before a failure are left alone.

    What an error means is said in failures.py; a lost worker is for Ray Train, which starts all of them again.
    """
    jobs: list[Job] = settings["jobs"]
    if ray.get(jobs[0].progress.problem.remote()):
        return  # of the start before: one worker met it, the others lost that one
    for job in jobs:
        if job.model.pending():
            _train(job)
    ray.train.report({"models": len(jobs)})


def _train(job: Job) -> None:
    config = job.config
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(config.threads_per_worker)
    device = ray.train.torch.get_device()
    job.progress.write.remote(job.arm, 0, 0, "loading the backbone")
    backbone = load_backbone(job.backbone, device=str(device), seed=job.seed)
    model = backbone.model
    prepare(model, config, job.seed)
    frozen = kept = frozen_sha256(model)
    if not needs_text_tower(config):
        drop_text_tower(model)
        kept = frozen_sha256(model)
    checkpoints = Checkpoints(open_storage(job.checkpoints), job.digest, config.keep_last)
    start = _least(checkpoints.newest(), device)
    state = checkpoints.load(start) if start else {}
    if state:
        load_weights(model, state)
    engine = initialize(
        TrainingStep(backbone, config, job.seed, rank, job.class_CD, job.class_weight_C), config, world_size
    )
    load_moments(engine, model, state, start)
    ema = Ema(model, config.ema_decay) if config.ema_decay else None
    if ema and state:
        ema.resume(
            {name.removeprefix(AVERAGE): value for name, value in state.items() if name.startswith(AVERAGE)}, start
        )
    batches = Batches(
        job.rows,
        batch_size=config.batch_size,
        image_size=backbone.image_size,
        seed=job.seed,
        rank=rank,
        world_size=world_size,
        window_parts=config.window_parts,
        cache_gb=config.cache_gb,
        num_threads=config.threads_per_worker,
        max_undecodable=config.max_undecodable,
        extra_captions=config.extra_captions,
        crop=backbone.crop,
        interpolation=backbone.interpolation,
        augment=AutoAugment(config.augment, backbone.image_size, backbone.mean, backbone.std)
        if config.augment.auto
        else None,
    )
    total = max(1, round(config.epochs * batches.steps_per_epoch))
    info = {
        "backbone": backbone.describe(),
        "backbone_config": job.backbone.model_dump(),
        "method": config.method,
        "last_k_layers": config.last_k_layers if config.method == "gated-image" else 0,
        "digest": job.digest,
        "seed": job.seed,
        "live_text": needs_text_tower(config),
        "steps": total,
        "pairs_seen": total * config.batch_size,
        "num_pairs": batches.num_rows,
    }
    first = rank == 0
    if first:
        checkpoints.storage.write("deepspeed.json", json_bytes(deepspeed_config(config, world_size)))
    log = Log(job, start) if first else None
    scores = Scores(job.watcher, job.watched, start) if first and job.watched else None
    watch = Watch(config.batch_size)
    began = saved = time.monotonic()

    def save(step: int) -> None:
        """Every worker takes part; the first one writes, while the training goes on."""
        state = training_state(engine, model)
        if ema:
            state |= {f"{AVERAGE}{name}": value.to("cpu", copy=True) for name, value in ema.shadow.items()}
        if first:
            checkpoints.save(
                step, state, partial(wait_for, scores.pending()) if scores and config.keep == "best" else None
            )

    def weights() -> dict[str, Tensor]:
        return dict(ema.shadow) if ema else trained_weights(engine, model)

    for batch in iterate(batches, start, total, config.data_workers, job.loaders):
        factor = learning_rate(batch.step, total, config)
        set_learning_rate(engine.optimizer, factor)
        loss = engine(batch)
        late = (
            first
            and config.checkpoint_every_minutes
            and time.monotonic() - saved > 60 * config.checkpoint_every_minutes
        )
        mean, late = _over_workers(loss, bool(late), world_size)
        if not math.isfinite(mean):  # before a weight is changed, on all workers
            raise _diverged("loss", mean, batch, job, checkpoints, log, device)
        checkpoints.confirm()
        engine.backward(loss)
        norm = optimizer_step(engine, model)
        if not math.isfinite(norm):  # on all workers, and no weight was changed
            raise _diverged("gradient's norm", norm, batch, job, checkpoints, log, device)
        clamp_temperature(engine, model)
        if ema:
            ema.update(model)
        step = batch.step + 1
        if log:
            scale = float(model.get_parameter("logit_scale").detach().exp())
            values = {"loss": mean, "lr": config.lr * factor, "logit_scale": scale, "grad_norm": norm}
            values |= watch.step(model, batches.waited_s)
            log.step(step, total, values)
        if job.watched and (step % config.watch_every_steps == 0 or step == total):
            trained = weights()
            if scores and scores.wants(step, wait=config.keep == "best" or step == total):
                scores.ask(step, gated_bytes(model, info, trained, None, frozen))
        if log and scores:
            log.scores(scores.answers())
        if step < total and (late or step % config.checkpoint_every_steps == 0):
            save(step)
            saved = time.monotonic()
            if log:
                log.flush()
    checkpoints.wait()
    trained = weights()
    if frozen_digest(model) != kept:
        raise AssertionError("a frozen weight has changed while training")
    if log:
        if scores:
            log.scores(scores.answers(wait=True))
        log.close()
        kept_step = total
        if scores and config.keep == "best":
            kept_step, trained = scores.best()
            info["best_step"] = kept_step
        if scores:
            ray.get([job.progress.warn.remote(f"train {job.arm}".strip() + f": {text}") for text in scores.warnings()])
        card = model_card(info, job.card, scores.card(kept_step) if scores else None)
        files = {
            "gated.safetensors": gated_bytes(
                model, info, trained, torch.float16 if config.save_dtype == "fp16" else None, frozen
            ),
            "gated.json": json_bytes(info),
            "recipe.yaml": job.recipe_yaml.encode(),
            "model_card.json": json_bytes(card),
        }
        bad_share = round(batches.num_undecodable / max(batches.num_decoded, 1), 6)
        job.model.commit_files(0, files, time.monotonic() - began, batches.num_rows, undecodable_share=bad_share)
    torch.distributed.barrier()  # the next training begins, or this one is found finished, on all workers alike


def _least(step: int, device: torch.device) -> int:
    """A checkpoint that one worker has just seen may not be seen by another yet."""
    value = torch.tensor(step, device=device)
    torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MIN)
    return int(value)


def _over_workers(loss: Tensor, late: bool, world_size: int) -> tuple[float, bool]:
    """(mean of the shares of a loss, which is not finite if one of them is not; whether a worker is late)"""
    values = torch.stack([loss.detach().double() / world_size, loss.new_tensor(late, dtype=torch.float64)])
    torch.distributed.all_reduce(values)
    mean, any_late = values.tolist()
    return mean, any_late > 0


def _diverged(
    what: str, value: float, batch: Batch, job: Job, checkpoints: Checkpoints, log: Log | None, device: torch.device
) -> TrainingDiverged:
    """Every worker takes part; the first one, which has the log, leaves behind what is known."""
    mine = torch.tensor(batch.pair_id_B, device=device)
    of_all = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(of_all, mine)
    pair_ids = torch.cat(of_all).cpu().numpy()
    if log:
        log.close()
        found = {"what": what, "step": batch.step, "pair_ids": pair_ids.tolist()}
        checkpoints.storage.write(DIVERGED, json_bytes(found))
        checkpoints.drop()
    kept = f"what is kept in {job.checkpoints} is of weights whose loss was finite"
    return diverged(what, value, batch.step, pair_ids, join(job.checkpoints, DIVERGED), kept)


def initialize(step: TrainingStep, config: CustomizeConfig, world_size: int) -> Any:
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    on_cpu = not config.gpus_per_worker
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    import deepspeed.ops

    if on_cpu:
        # Built by a C++ compiler at the first start (28 s) for an all-reduce in shared memory; plain gloo needs neither.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine, *_ = deepspeed.initialize(
        model=step, optimizer=make_optimizer(step.clip, config), config=deepspeed_config(config, world_size)
    )
    return engine


class Log:
    """What the first worker tells: the metrics stream, TensorBoard, and the progress display."""

    def __init__(self, job: Job, start: int) -> None:
        storage = open_storage(job.run)
        self._job, self._start = job, start
        self._metrics = Metrics(storage, f"train-{job.arm or 'model'}")
        self._metrics.drop_after(start)
        self._scored = Metrics(storage, f"scores-{job.arm or 'model'}")
        self._scored.drop_after(-1)  # they come again, those of before too
        facts = {
            "method": job.config.method,
            "backbone": job.backbone.name,
            "recipe": job.card["recipe"],
            "out": job.run,
        }
        self._boards: list[Any] = [TensorBoard(storage, job.arm or "model", start)]
        self._boards += open_trackers(job.config.trackers, job.card["recipe"], job.arm or "model", job.digest, facts)
        self._score, self._waited = "", 0.0  # share of the time, of late

    def step(self, step: int, total: int, values: dict[str, float]) -> None:
        self._waited += (values["wait_share"] - self._waited) / 20
        self._metrics.log(step, **values)
        for board in self._boards:
            board.log(step, values)
        resumed = f"  went on from step {self._start}" if self._start else ""
        self._job.progress.write.remote(
            self._job.arm,
            step,
            total,
            f"loss {values['loss']:.3f}  waits {100 * self._waited:.0f} %{self._score}{resumed}",
        )

    def scores(self, found: dict[int, dict[str, float]]) -> None:
        for step, values in found.items():
            named = {f"top1/{task}": value for task, value in values.items()}
            self._scored.log(step, **named)
            for board in self._boards:
                board.log(step, named)
            self._score = f"  top-1 {100 * values[MEAN]:.1f} % at step {step}"

    def flush(self) -> None:
        self._metrics.flush()
        if self._scored.rows():
            self._scored.flush()
        self._boards[0].flush()

    def close(self) -> None:
        self.flush()
        for board in self._boards:
            board.close()
