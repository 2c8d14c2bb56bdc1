"""The training loop of every worker: build the model, the data and the DeepSpeed engine, step, save, finish.

A training is deterministic for (recipe, seed, number of workers): a batch is a function of its step, and augmentation
is a function of (seed, step, place in the batch). A resumed run therefore repeats the undisturbed one bit for bit on
the CPU, and with another number of workers up to the order of sums.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from functools import partial

import ray
import ray.train
import ray.train.torch
import torch
from torch import Tensor

from react_ray.clip.backbone import Backbone
from react_ray.clip.text import drop_text_tower
from react_ray.errors import StorageError, TrainingDiverged
from react_ray.gated.card import json_bytes
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.config import needs_text_tower
from react_ray.gated.load import load_backbone
from react_ray.gated.method import frozen_sha256, prepare
from react_ray.stages.training.agreement import least, mean_loss, of_all_workers
from react_ray.stages.training.checkpoints import Checkpoints
from react_ray.stages.training.engine import clamp_temperature, make_engine, optimizer_step
from react_ray.stages.training.job import Job
from react_ray.stages.training.loader_actors import iterate
from react_ray.stages.training.log import Log
from react_ray.stages.training.model_files import describe, model_files
from react_ray.stages.training.online_eval import Scores, wait_for
from react_ray.stages.training.zero_state import (
    frozen_digest,
    load_moments,
    load_weights,
    trained_weights,
    training_state,
)
from react_ray.storage import join, open_storage
from react_ray.training.auto_augment import AutoAugment
from react_ray.training.batches import Batch, Batches
from react_ray.training.deepspeed_config import deepspeed_config
from react_ray.training.metrics import Watch
from react_ray.training.optim import Ema, set_learning_rate
from react_ray.training.schedule import learning_rate, num_steps
from react_ray.training.step import TrainingStep, diverged

DIVERGED = "diverged.json"  # beside the checkpoints
AVERAGE = "average/"  # prefixes the names of an exponential moving average in a checkpoint
ASK_EVERY_S = 5.0  # whether a node will be preempted: a barrier over Ray, 42 ms on two busy cores; Ray looks every 5 s


def train_all(jobs: list[Job]) -> None:
    """Trains the models one after another; those that were finished before a failure are left alone."""
    for job in jobs:
        if job.model.pending():
            Training(job).run()


class Training:
    """One training on one worker. `run` is the whole of it; all workers call the same methods in the same order."""

    def __init__(self, job: Job) -> None:
        self.job, self.config = job, job.config
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.first = self.rank == 0
        self.device = ray.train.torch.get_device()

    def run(self) -> None:
        self.build()
        try:
            for batch in iterate(self.batches, self.start, self.total, self.config.data_workers, self.job.loaders):
                self.step(batch)
            self.finish()
        except Exception:
            with suppress(StorageError):
                self.checkpoints.wait()  # a preempted run ends by the error of a lost worker: its checkpoint is of use
            raise

    def build(self) -> None:
        torch.set_num_threads(self.config.threads_per_worker)
        self.job.progress.write.remote(self.job.arm, 0, 0, "loading the backbone")
        backbone = self._build_model()
        self._build_engine(backbone)
        self.batches = self._build_batches(backbone)
        self.total = num_steps(self.config, self.batches.num_rows)
        self.info = describe(self.job, backbone, self.total, self.batches.num_rows)
        if self.first:
            self.checkpoints.storage.write("deepspeed.json", json_bytes(deepspeed_config(self.config, self.world_size)))
        self.log = Log(self.job, self.start) if self.first else None
        watched = self.job.watched if self.first else None
        self.scores = Scores(self.job.watcher, watched, self.start) if watched else None
        self.watch = Watch(self.config.batch_size)
        self.began = self.saved = time.monotonic()
        self.asked, self.preempted = -math.inf, False

    def step(self, batch: Batch) -> None:
        factor = learning_rate(batch.step, self.total, self.config)
        set_learning_rate(self.engine.optimizer, factor)
        loss = self.engine(batch)
        mean, (late, ask) = mean_loss(loss, self._checkpoint_is_late(), self._time_to_ask())
        if not math.isfinite(mean):  # on all workers, before any weight changes
            raise self._diverged("loss", mean, batch)
        self.checkpoints.confirm()
        self.engine.backward(loss)
        norm = optimizer_step(self.engine, self.model)
        if not math.isfinite(norm):  # on all workers, and no weight has changed
            raise self._diverged("gradient's norm", norm, batch)
        clamp_temperature(self.engine, self.model)
        if self.ema:
            self.ema.update(self.model)
        step = batch.step + 1
        if self.log:
            scale = float(self.model.get_parameter("logit_scale").detach().exp())
            values = {"loss": mean, "lr": self.config.lr * factor, "logit_scale": scale, "grad_norm": norm}
            values |= self.watch.step(self.model, self.batches.waited_s)
            self.log.step(step, self.total, values)
        self._score(step)
        going = ask and self._is_being_preempted(step)
        if step < self.total and (late or going or step % self.config.checkpoint_every_steps == 0):
            self.save(step)

    def save(self, step: int) -> None:
        """All workers gather the state; the first one writes it while the training goes on."""
        state = training_state(self.engine, self.model)
        if self.ema:
            state |= {f"{AVERAGE}{name}": value.to("cpu", copy=True) for name, value in self.ema.shadow.items()}
        if self.first:
            best = self.scores if self.config.keep == "best" else None
            self.checkpoints.save(step, state, partial(wait_for, best.pending()) if best else None)
        self.saved = time.monotonic()
        if self.log:
            self.log.flush()

    def finish(self) -> None:
        self.checkpoints.wait()
        trained = self._weights()
        if frozen_digest(self.model) != self.kept:
            raise AssertionError("a frozen weight has changed while training")
        if self.log:
            self._write_model(trained, self.log)
        torch.distributed.barrier()  # so that all workers alike begin the next training, or find this one finished

    def _build_model(self) -> Backbone:
        """Sets also the digests of the frozen weights: `frozen` of all of them, `kept` of those that stay in memory."""
        backbone = load_backbone(self.job.backbone, device=str(self.device), seed=self.job.seed)
        self.model = backbone.model
        prepare(self.model, self.config, self.job.seed)
        self.frozen = self.kept = frozen_sha256(self.model)
        if not needs_text_tower(self.config):
            drop_text_tower(self.model)
            self.kept = frozen_sha256(self.model)
        return backbone

    def _build_engine(self, backbone: Backbone) -> None:
        """Makes the engine and the average where the newest checkpoint left them, if there is one."""
        job, config = self.job, self.config
        self.checkpoints = Checkpoints(open_storage(job.checkpoints), job.digest, config.keep_last)
        self.start = least(self.checkpoints.newest(), self.device)
        state = self.checkpoints.load(self.start) if self.start else {}
        if state:
            load_weights(self.model, state)
        step = TrainingStep(backbone, config, job.seed, self.rank, job.classes, job.class_weight_C)
        self.engine = make_engine(step, config, self.world_size)
        load_moments(self.engine, self.model, state, self.start)
        self.ema = Ema(self.model, config.ema_decay) if config.ema_decay else None
        if self.ema and state:
            average = {n.removeprefix(AVERAGE): value for n, value in state.items() if n.startswith(AVERAGE)}
            self.ema.resume(average, self.start)

    def _build_batches(self, backbone: Backbone) -> Batches:
        config, size = self.config, backbone.image_size
        augment = AutoAugment(config.augment, size, backbone.mean, backbone.std) if config.augment.auto else None
        return Batches(
            self.job.rows,
            batch_size=config.batch_size,
            image_size=size,
            seed=self.job.seed,
            rank=self.rank,
            world_size=self.world_size,
            streams=config.streams,
            cache_gb=config.cache_gb,
            num_threads=config.threads_per_worker,
            max_undecodable=config.max_undecodable,
            crop=backbone.crop,
            interpolation=backbone.interpolation,
            augment=augment,
        )

    def _weights(self) -> dict[str, Tensor]:
        """What becomes the model: the average where there is one. All workers take part."""
        return dict(self.ema.shadow) if self.ema else trained_weights(self.engine, self.model)

    def _score(self, step: int) -> None:
        """Hands the weights to the watcher at the steps that are scored, and logs the scores that have come."""
        config = self.config
        if self.job.watched and (step % config.watch_every_steps == 0 or step == self.total):
            trained = self._weights()
            if self.scores and self.scores.wants(step, wait=config.keep == "best" or step == self.total):
                self.scores.ask(step, gated_bytes(self.model, self.info, trained, None, self.frozen))
        if self.log and self.scores:
            self.log.scores(self.scores.answers())

    def _checkpoint_is_late(self) -> bool:
        limit_s = 60 * self.config.checkpoint_every_minutes
        return self.first and limit_s > 0 and time.monotonic() - self.saved > limit_s

    def _time_to_ask(self) -> bool:
        """Whether the clock of rank 0 says that all workers should ask for preemptions after this step."""
        if not self.first or self.preempted or time.monotonic() - self.asked < ASK_EVERY_S:
            return False
        self.asked = time.monotonic()
        return True

    def _is_being_preempted(self, step: int) -> bool:
        """True once, when Ray first says that a node of this training is about to go: time for a last checkpoint.

        The training goes on meanwhile; Ray Train starts it again, on the nodes that are left, when the node is gone.
        """
        info = ray.train.get_preemption_info()
        if info is None:
            return False
        self.preempted = True
        if self.first:
            ranks = ", ".join(map(str, info.preempted_ranks))
            self.job.progress.warn.remote(
                f"{self.job.title}: the node of worker {ranks} is about to be preempted; a checkpoint was taken at "
                f"step {step}"
            )
        return True

    def _diverged(self, what: str, value: float, batch: Batch) -> TrainingDiverged:
        """All workers take part; the first one, which has the log, leaves behind what is known."""
        pair_ids = of_all_workers(batch.pair_id_B, self.device)
        if self.log:
            self.log.close()
            found = {"what": what, "step": batch.step, "pair_ids": pair_ids.tolist()}
            self.checkpoints.storage.write(DIVERGED, json_bytes(found))
            self.checkpoints.drop()
        torch.distributed.barrier()  # the first error that is raised ends the run on all workers
        kept = f"what is kept in {self.job.checkpoints} is of weights whose loss was finite"
        return diverged(what, value, batch.step, pair_ids, join(self.job.checkpoints, DIVERGED), kept)

    def _write_model(self, trained: dict[str, Tensor], log: Log) -> None:
        job, step, card = self.job, self.total, None
        if self.scores:
            log.scores(self.scores.answers(wait=True))
        log.close()
        if self.scores:
            if self.config.keep == "best":
                step, trained = self.scores.best()
                self.info["best_step"] = step
            ray.get([job.progress.warn.remote(f"{job.title}: {text}") for text in self.scores.warnings()])
            card = self.scores.card(step)
        files = model_files(job, self.model, self.info, trained, self.frozen, card)
        batches, seconds = self.batches, time.monotonic() - self.began
        bad_share = round(batches.num_undecodable / max(batches.num_decoded, 1), 6)
        job.model.commit_files(0, files, seconds, batches.num_rows, undecodable_share=bad_share)
