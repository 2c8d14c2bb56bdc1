"""Samples per second of a gated-image training step: ours, and the official implementation's with its README's flags.

--official names the folder of a checkout of github.com/microsoft/react, which is not part of this repository. Both
implementations get the same weights, and random images and words. Each runs in a process of its own; they take turns,
step by step, and the fastest step of each counts. The last line is one JSON object; `loss_difference` shows that both
computed the same loss.

    python tests/benchmark/bench_customize.py [--official PATH] [--model ViT-B-32] [--batch 16] [--steps 5]
        [--precision fp32]

The official step uses the flags of its README: --lock-image-unlock-gated --lock-text --grad-checkpointing; the text
tower runs in every step. Its activation checkpoints are reentrant, as in torch 1.12, for which it was written.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.checkpoint

GATE = 0.3  # both implementations start from open gates, because closed gates would hide an error behind them
Step = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", default="", help="folder of a checkout of microsoft/react; empty = ours alone")
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each, after one that is not")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="ours: torch.compile the image blocks")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--weights", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        serve(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.weights = str(Path(folder, "weights.pt"))
        print(json.dumps(compare(options)))


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """The official child starts first, because it leaves its random weights for ours."""
    names = ["official", "ours"] if options.official else ["ours"]
    children = {}
    for name in names:
        children[name] = subprocess.Popen(
            [sys.executable, __file__, *arguments(options), "--child", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        answer(children[name], "ready")
    best: dict[str, float] = {}
    cpu: dict[str, float] = {}
    losses: dict[str, list[float]] = {name: [] for name in names}
    for number in range(options.steps + 1):
        for name in names:
            seconds, cpu_s, loss = map(float, answer(children[name], "step").split())
            losses[name].append(loss)
            if number:
                best[name] = min(seconds, best.get(name, seconds))
                cpu[name] = min(cpu_s, cpu.get(name, cpu_s))
            print(f"{name:9} step {number}  {seconds:8.3f} s  CPU {cpu_s:8.3f} s  loss {loss:.6f}", flush=True)
    for child in children.values():
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    rate = {name: round(options.batch / best[name], 3) for name in names}
    official = rate.get("official")
    return {
        "model": options.model,
        "ours": rate["ours"],
        "official": official,
        "ratio": None if official is None else round(rate["ours"] / official, 3),
        "ratio_of_cpu_seconds": None if official is None else round(cpu["official"] / cpu["ours"], 3),
        "batch": options.batch,
        "precision": options.precision,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": options.threads,
        "compile": options.compile,
        "loss_difference": None if official is None else abs(losses["ours"][0] / losses["official"][0] - 1),
    }


def arguments(options: argparse.Namespace) -> list[str]:
    names = ("official", "model", "batch", "precision", "threads", "weights")
    given = [text for name in names for text in (f"--{name}", str(getattr(options, name)))]
    return [*given, "--compile"] if options.compile else given


def answer(child: subprocess.Popen[str], wanted: str) -> str:
    assert child.stdin is not None and child.stdout is not None
    if wanted == "step":
        child.stdin.write("step\n")
        child.stdin.flush()
    for line in child.stdout:
        if line.startswith(f"{wanted}:"):
            return line.partition(":")[2].strip()
    raise SystemExit(f"{child.args} ended before it said {wanted!r}; see its message above")


def serve(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    step = official_step(options) if options.child == "official" else our_step(options)
    print("ready: yes", flush=True)
    for _ in sys.stdin:
        synchronize()
        began, cpu_began = time.perf_counter(), time.process_time()
        loss = step()
        synchronize()
        print(f"step: {time.perf_counter() - began} {time.process_time() - cpu_began} {loss}", flush=True)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def data(options: argparse.Namespace) -> tuple[np.ndarray, list[str]]:
    """uint8 images and captions of a few words."""
    generator = np.random.default_rng(0)
    words = ["heron", "egret", "stork", "ibis", "water", "reed", "morning", "grey", "white", "flying"]
    captions = [f"a photo of {' '.join(generator.choice(words, 4))}" for _ in range(options.batch)]
    return generator.integers(0, 256, (options.batch, 3, 224, 224), dtype=np.uint8), captions


def our_step(options: argparse.Namespace) -> Step:
    from react_ray.clip.text import drop_text_tower
    from react_ray.gated.config import LAST_K_LAYERS, CustomizeConfig
    from react_ray.gated.method import freeze
    from react_ray.gated.models import load_model
    from react_ray.training.batches import Batch
    from react_ray.training.optim import MAX_LOGIT_SCALE, make_optimizer
    from react_ray.training.step import TrainingStep

    weights = options.weights if Path(options.weights).exists() else "random"
    backbone = load_model(f"react_{options.model}", weights, device=device())
    config = CustomizeConfig(
        batch_size=options.batch,
        lr=5e-4,
        gate_lr_scale=1,
        precision=options.precision,
        compile=options.compile,
        last_k_layers=LAST_K_LAYERS[options.model],
    )
    images, captions = data(options)
    with torch.inference_mode():
        text_BD = backbone.model.encode_text(backbone.tokenizer(captions).to(device())).cpu().numpy()  # type: ignore[operator]
    freeze(backbone.model.train(), config.method)
    drop_text_tower(backbone.model)
    step, optimizer = TrainingStep(backbone, config, seed=0), make_optimizer(backbone.model, config)
    nothing = np.full(options.batch, -1)
    batch = Batch(0, 0, images, captions, np.arange(options.batch), nothing, nothing, text_BD)

    def run() -> float:
        optimizer.zero_grad()
        loss = step(batch)
        loss.backward()
        optimizer.step()
        backbone.model.get_parameter("logit_scale").data.clamp_(0, MAX_LOGIT_SCALE)
        return float(loss.detach())

    return run


def official_step(options: argparse.Namespace) -> Step:
    sys.path[0] = str(Path(options.official, "react_customization", "src"))
    torch.utils.checkpoint.checkpoint = functools.partial(torch.utils.checkpoint.checkpoint, use_reentrant=True)  # type: ignore[assignment]
    import open_clip
    from open_clip.loss import ClipLoss

    if not str(open_clip.__file__).startswith(sys.path[0]):
        raise SystemExit(
            f"{options.official} has no react_customization/src/open_clip; name a checkout of microsoft/react"
        )
    model: Any = open_clip.create_model(f"react_{options.model}").to(device())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "alpha_" in name:
                parameter.fill_(GATE)
    torch.save(model.state_dict(), options.weights)
    model.lock_image_tower_unlock_gated()
    model.lock_text_tower()
    model.set_grad_checkpointing()
    model.train()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    plain = [p for n, p in trained if p.ndim < 2 or any(part in n for part in ("bn", "ln", "bias", "logit_scale"))]
    chosen = {id(p) for p in plain}
    decayed = [p for _, p in trained if id(p) not in chosen]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.1}]
    optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
    images, captions = data(options)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    image = ((torch.from_numpy(images) / 255 - mean) / std).to(device())
    tokens, loss_of = open_clip.tokenize(captions).to(device()), ClipLoss()

    def run() -> float:
        optimizer.zero_grad()
        with torch.autocast(device(), torch.bfloat16, enabled=options.precision == "bf16"):
            loss = loss_of(*model(image, tokens))
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(100)))
        return float(loss.detach())

    return run


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
