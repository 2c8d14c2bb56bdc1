"""Processor seconds of ViT-B-32's two towers with our SelfAttention and with torch's nn.MultiheadAttention.

One model with random weights changes its attention class from pass to pass, so that both see the same weights, the same
inputs and the same machine. Seconds are medians over the rounds; `saved` is the median over the rounds of the share of
torch's seconds that ours does not need. The last line is one JSON object.

    python -m tests.benchmark.bench_attention [--images 8] [--texts 8] [--rounds 7] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from react_ray.clip.attention import SelfAttention, use_self_attention

WARM_UP = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8, help="images per pass, of 224 pixels: 50 tokens each")
    parser.add_argument("--texts", type=int, default=8, help="texts per pass, of 77 tokens")
    parser.add_argument("--rounds", type=int, default=7, help="passes of each kind and class; the median counts")
    parser.add_argument("--threads", type=int, default=1, help="waiting threads spin, which counts")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model: Any = open_clip.create_model("ViT-B-32")
    assert use_self_attention(model) == 24, "twelve blocks in either tower"
    inputs = {
        "image": (model.encode_image, torch.randn(arguments.images, 3, 224, 224)),
        "text": (model.encode_text, torch.randint(1, 49408, (arguments.texts, 77))),
    }
    result: dict[str, Any] = {"device": f"CPU, {arguments.threads} threads"}
    for tower, (encode, x) in inputs.items():
        for kind, run in (("forward", forward), ("forward_backward", forward_backward)):
            model.train(kind == "forward_backward")
            result[f"{tower}_{kind}"] = compare(
                model, lambda run=run, encode=encode, x=x: run(encode, x), arguments.rounds
            )
            print(tower, kind, json.dumps(result[f"{tower}_{kind}"]), flush=True)
    print(json.dumps(result))


def forward(encode: Callable[[Tensor], Tensor], x: Tensor) -> None:
    with torch.inference_mode():
        encode(x)


def forward_backward(encode: Callable[[Tensor], Tensor], x: Tensor) -> None:
    encode(x).square().sum().backward()


def compare(model: nn.Module, action: Callable[[], None], rounds: int) -> dict[str, float]:
    """Medians over passes that alternate between the two classes, s of processor time."""
    seconds: dict[str, list[float]] = {"torch_s": [], "ours_s": []}
    modules = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    for number in range(WARM_UP + rounds):
        for name, attention in (("torch_s", nn.MultiheadAttention), ("ours_s", SelfAttention)):
            for module in modules:
                module.__class__ = attention
            model.zero_grad(set_to_none=True)
            began = time.process_time()
            action()
            if number >= WARM_UP:
                seconds[name].append(time.process_time() - began)
    result = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
    saved = [1 - ours / theirs for theirs, ours in zip(seconds["torch_s"], seconds["ours_s"], strict=True)]
    return result | {"saved": round(statistics.median(saved), 3)}


if __name__ == "__main__":
    main()
