"""Measures the images per second of a zero-shot evaluation beside the bare forward passes of the same model.

The images are JPEGs of 256 pixels that are as hard to decode as photographs; weights are random. The bare passes take
tensors that lie in memory. Both run alternately, with the same batch size and the same threads: on a CPU in fp32, on a
GPU in bf16. The last line is one JSON object.

    python -m tests.benchmark.bench_evaluate [--model ViT-B-32] [--seconds 60] [--batch-size 32] [--threads 2]

stage          images / time from the last receipt of the prompts, when the model is there and no image is read, to the
               last receipt of the scores: reading, decoding, embedding, classifying by prompts and by a head, writing
forward_only   the forward passes of the image tower on normalised pixels, in the quicker of two ways: whole batches by
               all threads together, or each thread its own rows, as the stage does it
ratio          the median of the stage between two measurements of the forward passes
whole_run      images / time of all that `evaluate` does: looking at the set and loading the model come first
decode         decoding alone, by the same threads; what it takes of the cores, the forward passes cannot have
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from react_ray.artifact import Artifact
from react_ray.clip.config import BackboneConfig
from react_ray.clip.image_tower import image_features
from react_ray.clip.pixels import decoded_batches
from react_ray.draft import create
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.load import load_backbone
from react_ray.kinds import MODEL, ModelFacts
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.cluster import on_demand
from react_ray.runtime.layout import Layout
from react_ray.stages import evaluate
from react_ray.training.head_file import HEAD_FILE, head_bytes
from tests.benchmark.bench_embed import rate, synchronize
from tests.benchmark.bench_store import jpeg

CLASSES = [f"class {number}" for number in range(10)]
AIM = 0.90


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--rows", type=int, default=0, help="images; 0 = as many as --seconds of forward passes")
    parser.add_argument("--seconds", type=float, default=60.0, help="that one evaluation takes, about")
    parser.add_argument("--batch-size", type=int, default=256 if on_gpu else 32)
    parser.add_argument("--threads", type=int, default=os.cpu_count() if on_gpu else 2)
    parser.add_argument(
        "--rounds", type=int, default=3, help="evaluations, each between two runs of the forward passes"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(bench(Path(folder), arguments, on_gpu)))


def bench(folder: Path, arguments: argparse.Namespace, on_gpu: bool) -> dict[str, Any]:
    torch.set_num_threads(arguments.threads)
    encoded = [jpeg(256, 256, 95, 1.6, seed) for seed in range(64)]
    forward_rate, decode_rate = bare_rates(encoded, arguments, on_gpu)
    forward_rate()
    forwards, stages, runs = [forward_rate()], [], []
    rows = arguments.rows or max(256, round(arguments.seconds * forwards[0] / 256) * 256)
    recipe = recipe_of(folder, encoded, rows, arguments, on_gpu)
    with on_demand(recipe.cluster):
        for _ in range(arguments.rounds):  # alternately, since the machine's speed drifts
            began = time.perf_counter()
            stages.append(steady_rate(recipe, evaluate.run(recipe)))
            runs.append(rows / (time.perf_counter() - began))
            forwards.append(forward_rate())
            for made in ("labelled_features", "class_vectors", "scores", "arms/linear/scores"):
                shutil.rmtree(Path(recipe.out, made))
    between = [(before + after) / 2 for before, after in pairwise(forwards)]
    ratio = float(np.median([stage / bare for stage, bare in zip(stages, between, strict=True)]))
    return {
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {arguments.threads} threads",
        "model": arguments.model,
        "images": rows,
        "stage": round(float(np.median(stages)), 2),
        "forward_only": round(float(np.median(forwards)), 2),
        "ratio": round(ratio, 3),
        "aim": AIM,
        "whole_run": round(float(np.median(runs)), 2),
        "decode": round(decode_rate(), 2),
    }


def bare_rates(
    encoded: list[bytes], arguments: argparse.Namespace, on_gpu: bool
) -> tuple[Callable[[], float], Callable[[], float]]:
    """Functions that measure images/s of the forward passes, and of decoding."""
    device = "cuda" if on_gpu else "cpu"
    config = BackboneConfig(name=arguments.model, pretrained="random", precision="bf16" if on_gpu else "fp32")
    backbone = load_backbone(config, device=device)
    pool = ThreadPoolExecutor(arguments.threads)
    alone = ThreadPoolExecutor(arguments.threads, initializer=torch.set_num_threads, initargs=(1,))
    how = (arguments.batch_size, backbone.image_size, backbone.crop, backbone.interpolation, pool)
    random = np.random.default_rng(0)
    shape = (arguments.batch_size, 3, backbone.image_size, backbone.image_size)
    batches = [random.integers(0, 256, shape, np.uint8) for _ in range(2)]
    images = [backbone.normalize(torch.from_numpy(batch).to(device)) for batch in batches]

    def forward(image_BCHW: torch.Tensor) -> None:
        with torch.inference_mode(), backbone.autocast():
            image_features(backbone.model, image_BCHW)

    def whole() -> None:
        for image_BCHW in images:
            forward(image_BCHW)
        synchronize()

    def by_rows() -> None:
        for image_BCHW in images:
            list(alone.map(forward, image_BCHW.chunk(arguments.threads)))

    def forward_rate() -> float:
        ways = [whole] if on_gpu else [whole, by_rows]
        return max(rate(len(images) * arguments.batch_size, way) for way in ways)

    return forward_rate, lambda: rate(len(encoded), lambda: [*decoded_batches(encoded, *how)])


def recipe_of(folder: Path, encoded: list[bytes], rows: int, arguments: argparse.Namespace, on_gpu: bool) -> Recipe:
    table = {
        "image": [encoded[row % len(encoded)] for row in range(rows)],
        "label": [row % len(CLASSES) for row in range(rows)],
    }
    pq.write_table(pa.table(table), folder / "test.parquet", row_group_size=256)
    values = {
        "name": "bench",
        "out": str(folder / "run"),
        "tasks": {"class_names": CLASSES},
        "backbone": {
            "name": arguments.model,
            "pretrained": "random",
            "precision": "bf16" if on_gpu else "fp32",
        },
        "ingest": {"source": "nowhere"},
        "evaluate": {
            "datasets": {"test": str(folder / "test.parquet")},
            "batch_size": arguments.batch_size,
            "pixel_pairs": 0,
        },
        "cluster": {
            "num_cpus": arguments.threads + 1,
            "threads_per_actor": arguments.threads,
            "gpus_per_actor": int(on_gpu),
        },
        "arms": {"linear": {"customize.method": "linear"}},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    recipe = load_recipe(str(folder / "recipe.yaml"))
    finish_head(recipe, load_backbone(recipe.backbone).dim)
    return recipe


def finish_head(recipe: Recipe, dim: int) -> None:
    """A head on the vectors of the base, so that the model runs once for both rows of the table."""
    head_CD = np.random.default_rng(0).normal(size=(len(CLASSES), dim)).astype(np.float32)
    named = [("task", name) for name in CLASSES]
    draft = create(Layout(recipe, "linear").of_arm("model"), MODEL, {}, {}, 1)
    data = head_bytes({"head": head_CD, "start": head_CD.copy()}, named, CustomizeConfig(), {})
    draft.commit_files(0, {HEAD_FILE: data}, 0.0, 1)
    draft.seal(ModelFacts({}, "linear"))


def steady_rate(recipe: Recipe, scores: list[Artifact]) -> float:
    begin = max(path.stat().st_mtime for path in Path(recipe.out, "class_vectors/base").glob("part-*.json"))
    ends = [path.stat().st_mtime for one in scores for path in Path(one.uri).glob("part-*.json")]
    return scores[0].rows / (max(ends) - begin)


if __name__ == "__main__":
    main()
