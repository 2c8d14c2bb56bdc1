"""Measures the images per second of a zero-shot evaluation beside the bare forward passes of the same model.

The images are JPEGs of 256 pixels that are as hard to decode as photographs; weights are random. The bare passes take
tensors that lie in memory. Both run alternately, with the same batch size and the same threads: on a CPU in fp32, on a
GPU in bf16. The last line is one JSON object.

    python -m tests.benchmark.bench_evaluate [--model ViT-B-32] [--rows 512] [--batch-size 32] [--threads 2]

stage          images / time from the start of the first part to the last receipt of the scores: reading, decoding,
               embedding, classifying by prompts and by a head, and writing, without the start of Ray and of the model
forward_only   the forward passes of the image tower
ratio          the median of the stage between two measurements of the forward passes
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from react_ray.artifact import Artifact
from react_ray.clip.image_tower import image_features
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
    parser.add_argument("--rows", type=int, default=32768 if on_gpu else 512)
    parser.add_argument("--batch-size", type=int, default=256 if on_gpu else 32)
    parser.add_argument("--threads", type=int, default=os.cpu_count() if on_gpu else 2)
    parser.add_argument(
        "--rounds", type=int, default=3, help="evaluations, each between two runs of the forward passes"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(bench(Path(folder), arguments, on_gpu)))


def bench(folder: Path, arguments: argparse.Namespace, on_gpu: bool) -> dict[str, Any]:
    recipe = recipe_of(folder, arguments, on_gpu)
    torch.set_num_threads(arguments.threads)
    backbone = load_backbone(recipe.backbone, device="cuda" if on_gpu else "cpu", seed=recipe.seed)
    finish_head(recipe, backbone.dim)
    random = np.random.default_rng(0)
    shape = (arguments.batch_size, 3, backbone.image_size, backbone.image_size)
    pixels = [torch.from_numpy(random.integers(0, 256, shape, np.uint8)) for _ in range(2)]
    images = [backbone.normalize(batch) for batch in pixels]

    def forward() -> None:
        with torch.inference_mode(), backbone.autocast():
            for image_BCHW in images:
                image_features(backbone.model, image_BCHW)
        synchronize()

    def forward_rate() -> float:
        return rate(len(images) * arguments.batch_size, forward)

    forward()
    forwards, stages = [forward_rate()], []
    with on_demand(recipe.cluster):
        for _ in range(arguments.rounds):  # alternately, since the machine's speed drifts
            stages.append(steady_rate(recipe, evaluate.run(recipe)))
            forwards.append(forward_rate())
            for made in ("labelled_features", "class_vectors", "scores", "arms/linear/scores"):
                shutil.rmtree(Path(recipe.out, made))
    between = [(before + after) / 2 for before, after in pairwise(forwards)]
    ratio = float(np.median([stage / bare for stage, bare in zip(stages, between, strict=True)]))
    return {
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {arguments.threads} threads",
        "model": arguments.model,
        "images": arguments.rows,
        "stage": round(float(np.median(stages)), 2),
        "forward_only": round(float(np.median(forwards)), 2),
        "ratio": round(ratio, 3),
        "aim": AIM,
    }


def recipe_of(folder: Path, arguments: argparse.Namespace, on_gpu: bool) -> Recipe:
    encoded = [jpeg(256, 256, 95, 1.6, seed) for seed in range(64)]
    table = {
        "image": [encoded[row % len(encoded)] for row in range(arguments.rows)],
        "label": [row % len(CLASSES) for row in range(arguments.rows)],
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
    return load_recipe(str(folder / "recipe.yaml"))


def finish_head(recipe: Recipe, dim: int) -> None:
    """A head on the vectors of the base, so that the model runs once for both rows of the table."""
    head_CD = np.random.default_rng(0).normal(size=(len(CLASSES), dim)).astype(np.float32)
    named = [("task", name) for name in CLASSES]
    draft = create(Layout(recipe, "linear").of_arm("model"), MODEL, {}, {}, 1)
    data = head_bytes({"head": head_CD, "start": head_CD.copy()}, named, CustomizeConfig(), {})
    draft.commit_files(0, {HEAD_FILE: data}, 0.0, 1)
    draft.seal(ModelFacts({}, "linear"))


def steady_rate(recipe: Recipe, scores: list[Artifact]) -> float:
    place = Path(recipe.out, "labelled_features/base/test")
    parts = {path: json.loads(path.read_text())["seconds"] for path in place.glob("part-*.json")}
    begin = min(path.stat().st_mtime - seconds for path, seconds in parts.items())
    ends = [path.stat().st_mtime for one in scores for path in Path(one.uri).glob("part-*.json")]
    return scores[0].rows / (max(ends) - begin)


if __name__ == "__main__":
    main()
