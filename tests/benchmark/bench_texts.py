"""Embeds prompts of ImageNet with the text tower in NumPy, by which servers embed what they are asked, and open_clip.

Both take one thread, the same random weights, and batches of 64. The least work is that of the tokens up to the end of
each text, at two operations per weight of the blocks; open_clip computes all 77. Runs alternate; medians. The last line
is one JSON object.

    python -m tests.benchmark.bench_texts [--model ViT-B-32] [--num 256]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import torch

from react_ray.clip.builtin_tasks import builtin_task
from react_ray.clip.config import BackboneConfig
from react_ray.clip.text_tower import TextTower, keep_text_tower, read_text_tower
from react_ray.gated.load import load_backbone
from react_ray.index.blas_threads import one_thread_each

AT_ONCE, REPEATS = 64, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", help="name of open_clip")
    parser.add_argument("--num", type=int, default=256, help="prompts")
    asked = parser.parse_args()
    print(json.dumps(measure(asked.model, asked.num)))


def measure(model: str, num: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    config = BackboneConfig(name=model, pretrained="random")
    backbone = load_backbone(config)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        keep_text_tower(backbone, config)
        tower = read_text_tower(config, backbone.text_sha256)
    assert tower is not None
    task = builtin_task("imagenet")
    texts = [f"a bad photo of a {name}." for name in task.class_names[:num]]
    tokenize = open_clip.get_tokenizer(model)

    def ours(some: list[str]) -> np.ndarray:
        with one_thread_each():
            return tower.embed_texts(some)

    @torch.inference_mode()
    def theirs(some: list[str]) -> np.ndarray:
        return backbone.model.encode_text(tokenize(some), normalize=True).numpy()

    difference = float(np.abs(ours(texts[:AT_ONCE]).astype(np.float32) - theirs(texts[:AT_ONCE])).max())
    seconds: dict[str, list[float]] = {"ours": [], "open_clip": [], "one": []}
    for _ in range(REPEATS):
        seconds["ours"].append(timed(ours, texts, AT_ONCE))
        seconds["open_clip"].append(timed(theirs, texts, AT_ONCE))
        seconds["one"].append(timed(ours, texts[:32], 1))
    per_s = {name: len(texts) / statistics.median(all_s) for name, all_s in seconds.items()}
    tokens = int((tower._tokenizer(texts).argmax(axis=1) + 1).sum())
    flop = 2.0 * tokens * sum(one.size for name, one in tower.weights.items() if "resblocks" in name and one.ndim == 2)
    return {
        "model": model,
        "texts_per_s": round(per_s["ours"], 1),
        "open_clip_texts_per_s": round(per_s["open_clip"], 1),
        "ratio": round(per_s["ours"] / per_s["open_clip"], 2),
        "one_text_ms": round(1000 * statistics.median(seconds["one"]) / 32, 2),
        "share_of_matrix_product": round(flop / statistics.median(seconds["ours"]) / gflops(tower), 2),
        "largest_difference": difference,
    }


def timed(embed: Callable[[list[str]], np.ndarray], texts: list[str], at_once: int) -> float:
    began = time.perf_counter()
    for start in range(0, len(texts), at_once):
        embed(texts[start : start + at_once])
    return time.perf_counter() - began


def gflops(tower: TextTower) -> float:
    """Operations per second of one thread in the largest product of the tower."""
    weight = next(one for name, one in tower.weights.items() if name.endswith("mlp.c_fc.weight"))
    rows_RW = np.ones((AT_ONCE * 10, weight.shape[1]), np.float32)
    with one_thread_each():
        all_s = [timed(lambda _: rows_RW @ weight.T, [""], 1) for _ in range(20)]
    return 2.0 * weight.size * len(rows_RW) / statistics.median(all_s)


if __name__ == "__main__":
    main()
