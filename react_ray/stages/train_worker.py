"""What runs on every training worker: model, data, DeepSpeed engine, the loop, checkpoints. The only importer of deepspeed.

Deterministic for (recipe, seed, number of workers): a batch is a function of its step, augmentation of (seed,
step, place in the batch), so a resumed run repeats the undisturbed one bit for bit on CPU. Next: gated/loss.py.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ray.train
import torch

from react_ray.clip.backbone import Backbone, load_backbone
from react_ray.clip.text import text_features
from react_ray.errors import ArtifactMismatch
from react_ray.gated.attach import attach_gated_blocks, draw_patches, gates, image_features
from react_ray.gated.augment import augment_rows, draw
from react_ray.gated.batches import Batch, Batches
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.loss import class_loss, contrastive_loss
from react_ray.gated.method import freeze, frozen_sha256, text_trains
from react_ray.gated.optim import Ema, clamp_logit_scale, learning_rate, make_optimizer, set_learning_rate
from react_ray.progress import Metrics
from react_ray.stages.customize import Job
from react_ray.storage import Storage, open_storage

MARKER = "checkpoint.json"


def train_worker(settings: dict[str, Any]) -> None:
    """Trains the models of `settings["jobs"]` one after another; those that were finished before a failure are left alone."""
    jobs: list[Job] = settings["jobs"]
    for job in jobs:
        if job.model.pending():
            _train(job)
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
    if config.method == "gated-image":
        attach_gated_blocks(
            model, config.last_k_layers, config.init, generator=torch.Generator().manual_seed(job.seed)
        )
        model.to(device)
    freeze(model, config.method, config.learn_logit_scale)
    frozen = frozen_sha256(model)
    engine = _initialize(_Step(backbone, job, rank), config, world_size)
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
    )
    total = max(1, round(config.epochs * batches.steps_per_epoch))
    checkpoints = Checkpoints(open_storage(job.checkpoints), job.digest, rank, world_size, config.keep_last)
    metrics = Metrics(open_storage(job.run), f"train-{job.arm or 'model'}") if rank == 0 else None
    step = start = checkpoints.load(engine, ema)
    if metrics:
        metrics.drop_after(step)
    began = time.monotonic()
    for batch in batches.iterate(step, total):
        factor = learning_rate(batch.step, total, config)
        set_learning_rate(engine.optimizer, factor)
        loss = engine(batch)
        engine.backward(loss)
        engine.step()
        clamp_logit_scale(model)
        if ema:
            ema.update(model)
        step = batch.step + 1
        if metrics:
            values = {"loss": float(loss.detach()), "lr": config.lr * factor, "logit_scale": float(model.get_parameter("logit_scale").detach().exp())}
            metrics.log(step, **values, **_gate_means(model))
            resumed = f"  went on from step {start}" if start else ""
            job.progress.write.remote(job.arm, step, total, f"loss {values['loss']:.3f}{resumed}")
        if step % config.checkpoint_every_steps == 0 and step < total:
            checkpoints.save(engine, ema, step)
            if metrics:
                metrics.flush()
    if rank == 0:
        assert metrics is not None
        metrics.flush()
    if ema:
        ema.copy_to(model)
    if frozen_sha256(model) != frozen:
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
            "gated.safetensors": gated_bytes(model, info, dtype=torch.float16 if config.save_dtype == "fp16" else None),
            "gated.json": (json.dumps(info, indent=1, sort_keys=True) + "\n").encode(),
            "recipe.yaml": job.recipe_yaml.encode(),
        }
        job.model.commit_files(0, files, time.monotonic() - began, batches.num_rows)
    torch.distributed.barrier()  # the next training begins, or this one is found finished, on all workers alike


class _Step(torch.nn.Module):
    """A batch in, the loss of the global batch out, so that DeepSpeed sees one forward."""

    def __init__(self, backbone: Backbone, job: Job, rank: int) -> None:
        super().__init__()
        self.clip = backbone.model
        self._backbone, self._config, self._seed, self._rank = backbone, job.config, job.seed, rank
        self._class_CD = torch.from_numpy(job.class_CD)

    def forward(self, batch: Batch) -> torch.Tensor:
        config, device = self._config, next(self.clip.parameters()).device
        generator = torch.Generator().manual_seed(_mix(self._seed, batch.step))
        local = len(batch.captions)
        mine = slice(self._rank * local, (self._rank + 1) * local)
        draw_BK = draw(config.batch_size, generator)[mine]
        keep_BP = draw_patches(config.batch_size, self.clip, config.patch_dropout, generator)
        pixels = torch.from_numpy(batch.image_BCHW).to(device)
        image_BCHW = self._backbone.normalize(augment_rows(pixels, draw_BK, config.augment))
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            image_BD = image_features(self.clip, image_BCHW, None if keep_BP is None else keep_BP[mine].to(device))
            text_BD = self._text(batch, device)
        class_id_B = torch.from_numpy(batch.class_id_B).to(device)
        logit_scale = self.clip.get_parameter("logit_scale")
        loss = image_BD.new_zeros((), dtype=torch.float32)
        if config.pair_loss:
            loss = loss + config.pair_loss * contrastive_loss(
                image_BD,
                text_BD,
                logit_scale,
                caption_ids=torch.from_numpy(batch.caption_id_B).to(device),
                class_ids=class_id_B,
                mask_duplicates=config.mask_duplicate_captions,
                mask_classes=config.mask_same_class,
                positives=config.positives,
            )
        if config.class_loss:
            loss = loss + config.class_loss * class_loss(
                image_BD, self._class_CD.to(device), logit_scale, class_id_B
            )
        return loss

    def _text(self, batch: Batch, device: torch.device) -> torch.Tensor:
        """Cached unit vectors where the text tower is frozen and they exist; otherwise the tower runs."""
        if batch.text_BD is not None and not text_trains(self._config.method):
            return torch.from_numpy(batch.text_BD).to(device)
        tokens = self._backbone.tokenizer(batch.captions).to(device)
        with torch.set_grad_enabled(text_trains(self._config.method)):
            return text_features(self.clip, tokens)


def deepspeed_config(config: CustomizeConfig, world_size: int) -> dict[str, Any]:
    """The whole of DeepSpeed's JSON: parameters stay float32, autocast is ours, the optimiser is torch's AdamW."""
    return {
        "train_batch_size": config.batch_size,
        "train_micro_batch_size_per_gpu": config.batch_size // world_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.grad_clip,
        "zero_optimization": {"stage": config.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 30,
        "wall_clock_breakdown": False,
    }


def _initialize(step: _Step, config: CustomizeConfig, world_size: int) -> Any:
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


def _gate_means(model: torch.nn.Module) -> dict[str, float]:
    values = gates(model)
    out = {}
    for kind in ("attn", "dense"):
        chosen = [abs(value) for name, value in values.items() if name.endswith(f".{kind}")]
        if chosen:
            out[f"gate_{kind}_abs_mean"] = sum(chosen) / len(chosen)
    return out


def _mix(*numbers: int) -> int:
    """One seed of several numbers."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 0x9E3779B9) % (1 << 62)
    return seed
