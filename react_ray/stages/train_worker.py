"""What runs on every training worker: model, data, DeepSpeed engine, the loop, checkpoints. The only importer of deepspeed.

Deterministic for (recipe, seed, number of workers): a batch is a function of its step, augmentation of (seed,
step, place in the batch), so a resumed run repeats the undisturbed one bit for bit on CPU. Next: gated/loss.py.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch

from react_ray.clip.backbone import load_backbone
from react_ray.clip.text import drop_text_tower
from react_ray.errors import ArtifactMismatch, TrainingDiverged
from react_ray.gated.batches import Batch, Batches
from react_ray.gated.card import json_bytes, model_card
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.method import frozen_sha256, prepare
from react_ray.gated.optim import Ema, clamp_logit_scale, learning_rate, make_optimizer, set_learning_rate
from react_ray.gated.step import TrainingStep, check_finite, needs_text_tower
from react_ray.gated.watch import TensorBoard, Watch
from react_ray.gated.zero import deepspeed_config
from react_ray.progress import Metrics
from react_ray.stages.customize import Job
from react_ray.storage import Storage, open_storage

MARKER = "checkpoint.json"


def train_worker(settings: dict[str, Any]) -> None:
    """Trains the models of `settings["jobs"]` one after another; those that were finished before a failure are left alone."""
    jobs: list[Job] = settings["jobs"]
    for job in jobs:
        if not job.model.pending():
            continue
        try:
            _train(job)
        except (ArtifactMismatch, TrainingDiverged) as error:  # on all workers alike, and at every further try
            ray.get(job.progress.stop.remote(error))
            return
    ray.train.report({"models": len(jobs)})


def _train(job: Job) -> None:
    config = job.config
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(config.threads_per_worker)
    device = str(ray.train.torch.get_device())
    job.progress.write.remote(job.arm, 0, 0, "loading the backbone")
    backbone = load_backbone(job.backbone, device=device, seed=job.seed)
    model = backbone.model
    prepare(model, config, job.seed)
    frozen = kept = frozen_sha256(model)
    if not needs_text_tower(config):
        drop_text_tower(model)
        kept = frozen_sha256(model)
    step_of_batch = TrainingStep(backbone, config, job.seed, rank, job.class_CD, job.class_weight_C)
    engine = _initialize(step_of_batch, config, world_size)
    ema = Ema(model, config.ema_decay) if config.ema_decay else None
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
    )
    total = max(1, round(config.epochs * batches.steps_per_epoch))
    checkpoints = Checkpoints(open_storage(job.checkpoints), job.digest, rank, world_size, config.keep_last)
    metrics = Metrics(open_storage(job.run), f"train-{job.arm or 'model'}") if rank == 0 else None
    if rank == 0:
        checkpoints.storage.write("deepspeed.json", json_bytes(deepspeed_config(config, world_size)))
    step = start = checkpoints.load(engine, ema)
    if metrics:
        metrics.drop_after(step)
    board = TensorBoard(open_storage(job.run), job.arm or "model", step) if rank == 0 else None
    watch = Watch(config.batch_size)
    began = time.monotonic()
    for batch in batches.iterate(step, total):
        factor = learning_rate(batch.step, total, config)
        set_learning_rate(engine.optimizer, factor)
        loss = engine(batch)
        _stop_if_diverged(loss, batch, partial(checkpoints.save, engine, ema, step), job.checkpoints)
        engine.backward(loss)
        engine.step()
        clamp_logit_scale(model)
        if ema:
            ema.update(model)
        step = batch.step + 1
        if metrics:
            values = {"loss": float(loss.detach()), "lr": config.lr * factor, "logit_scale": float(model.get_parameter("logit_scale").detach().exp())}
            values |= watch.step(model, batches.waited_s)
            if norm := engine.get_global_grad_norm():
                values["grad_norm"] = float(norm)
            metrics.log(step, **values)
            if board:
                board.log(step, values)
            resumed = f"  went on from step {start}" if start else ""
            job.progress.write.remote(job.arm, step, total, f"loss {values['loss']:.3f}{resumed}")
        if step % config.checkpoint_every_steps == 0 and step < total:
            checkpoints.save(engine, ema, step)
            if metrics and board:
                metrics.flush()
                board.flush()
    if metrics and board:
        metrics.flush()
        board.close()
    if ema:
        ema.copy_to(model)
    if frozen_sha256(model) != kept:
        raise AssertionError("a frozen weight has changed while training")
    info = {
        "backbone": backbone.describe(),
        "backbone_config": job.backbone.model_dump(),
        "method": config.method,
        "last_k_layers": config.last_k_layers if config.method == "gated-image" else 0,
        "digest": job.digest,
        "steps": total,
        "pairs_seen": total * config.batch_size,
        "num_pairs": batches.num_rows,
    }
    if rank == 0:
        files = {
            "gated.safetensors": gated_bytes(model, info, None, torch.float16 if config.save_dtype == "fp16" else None, frozen),
            "gated.json": json_bytes(info),
            "recipe.yaml": job.recipe_yaml.encode(),
            "model_card.json": json_bytes(model_card(info, job.card)),
        }
        seconds, num_bad = time.monotonic() - began, batches.num_undecodable
        job.model.commit_files(0, files, seconds, batches.num_rows, batches.num_rows - num_bad, undecodable=num_bad)
    torch.distributed.barrier()  # the next training begins, or this one is found finished, on all workers alike


def _stop_if_diverged(loss: torch.Tensor, batch: Batch, save: Callable[[], None], place: str) -> None:
    """Every rank hears of it before a weight is changed, so that the weights of the last good step can be kept."""
    good = torch.isfinite(loss.detach()).float()
    torch.distributed.all_reduce(good, op=torch.distributed.ReduceOp.MIN)
    if not good:
        save()
        check_finite(float("nan"), batch, f"the weights from before it are the last checkpoint in {place}")


def _initialize(step: TrainingStep, config: CustomizeConfig, world_size: int) -> Any:
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    import deepspeed.ops

    if not torch.cuda.is_available():
        # Built by a C++ compiler at the first start (28 s) for an all-reduce in shared memory; plain gloo needs neither.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine, *_ = deepspeed.initialize(model=step, optimizer=make_optimizer(step.clip, config), config=deepspeed_config(config, world_size))
    return engine


class Checkpoints:
    """`step_N/trainer/*` from every rank, then `step_N/checkpoint.json`: a checkpoint exists iff that exists."""

    def __init__(self, storage: Storage, digest: str, rank: int, world_size: int, keep_last: int) -> None:
        self.storage, self.digest, self.rank, self.world_size = storage, digest, rank, world_size
        self.keep_last = max(1, keep_last)

    def save(self, engine: Any, ema: Ema | None, step: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            state = {"ema": ema.state_dict() if ema else None}
            engine.save_checkpoint(folder, tag="trainer", client_state=state, exclude_frozen_parameters=True)
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    self.storage.write(f"{_name(step)}/{path.relative_to(folder)}", path.read_bytes())
        torch.distributed.barrier()
        if self.rank == 0:
            marker = {"step": step, "world_size": self.world_size, "digest": self.digest}
            self.storage.write(f"{_name(step)}/{MARKER}", json.dumps(marker).encode())
            for old in self._steps()[: -self.keep_last]:
                self.storage.delete(f"{_name(old)}/{MARKER}")
                self.storage.delete_all(_name(old))

    def load(self, engine: Any, ema: Ema | None) -> int:
        """The step to go on from; 0 without a checkpoint."""
        steps = self._steps()
        if not steps:
            return 0
        name = _name(steps[-1])
        marker = json.loads(self.storage.read(f"{name}/{MARKER}"))
        if marker["digest"] != self.digest:
            raise ArtifactMismatch(
                f"{self.storage.uri}/{name} belongs to another configuration or data; delete {self.storage.uri} or name another `out`"
            )
        if marker["world_size"] != self.world_size:
            raise ArtifactMismatch(
                f"{self.storage.uri}/{name} was written by {marker['world_size']} workers, now there are {self.world_size}; set customize.num_workers={marker['world_size']}"
            )
        with tempfile.TemporaryDirectory() as folder:
            for path in self.storage.list(name):
                relative = path.removeprefix(f"{name}/")
                if relative != MARKER:
                    target = Path(folder, relative)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(self.storage.read(path))
            _, state = engine.load_checkpoint(folder, tag="trainer", load_module_strict=False)
        if ema:
            ema.load_state_dict(state["ema"])
        torch.distributed.barrier()
        return int(marker["step"])

    def _steps(self) -> list[int]:
        marked = [path for path in self.storage.list() if path.endswith(f"/{MARKER}")]
        return sorted(int(path.split("/")[0].removeprefix("step_")) for path in marked)


def _name(step: int) -> str:
    return f"step_{step:08d}"
