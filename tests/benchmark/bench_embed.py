"""Measures the pairs per second of the embed stage beside the bare forward passes of the same model.

The images are JPEGs of 256 pixels that are as hard to decode as photographs, each with a caption; weights are random.
The bare passes take tensors that lie in memory. One run measures everything alternately, with the same batch size and
the same threads: on a CPU in fp32, on a GPU in bf16 (ViT-B-32, ViT-L-14 and ViT-bigG-14). Then a tiny model embeds many
small parts, which shows whether memory grows with their number. The last line is one JSON object.

    python -m tests.benchmark.bench_embed [--models ViT-B-32] [--rows 512] [--batch-size 32] [--threads 2]
                                          [--memory-parts 200]

stage           rows / time from the start of the first part in the actor to the last receipt: reading, decoding,
                tokenising, embedding and writing, without the start of Ray and of the model
forward_only    our forward passes: the last image block computes the class token only, and captions are cut at the
                longest one of their batch
open_clip       open_clip's encode_image and encode_text, for comparison
decode, tokenize   each by itself, in its threads; where `ratio` is low, the slower of the two starves the device
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import torch
import yaml

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.embedder import Embedder
from react_ray.clip.image_tower import image_features
from react_ray.clip.pixels import decoded_batches
from react_ray.clip.text import text_features
from react_ray.draft import create
from react_ray.gated.load import load_backbone
from react_ray.kinds import EMBEDDINGS, IMAGES
from react_ray.pair_id import pair_ids
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.cluster import connected
from react_ray.stages import embed
from tests.benchmark.bench_store import jpeg

TEXT = "a photo of the small large red heron egret water reeds at dawn in front house with two people near river"
WORDS = TEXT.split()
TINY = Path(__file__).parents[1] / "support/tiny_clip.json"


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = ["ViT-B-32", "ViT-L-14", "ViT-bigG-14"] if on_gpu else ["ViT-B-32"]
    parser.add_argument("--models", nargs="*", default=models, help="models to measure; none = only the memory")
    parser.add_argument("--rows", type=int, default=32768 if on_gpu else 512)
    parser.add_argument("--rows-per-part", type=int, default=2048 if on_gpu else 64)
    parser.add_argument("--batch-size", type=int, default=256 if on_gpu else 32)
    parser.add_argument("--threads", type=int, default=os.cpu_count() if on_gpu else 2)
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="runs of the stage, each between two runs of the forward passes; medians count",
    )
    parser.add_argument(
        "--memory-parts", type=int, default=200, help="parts to embed for the memory; 0 = do not measure it"
    )
    arguments = parser.parse_args()
    result: dict[str, Any] = {"device": torch.cuda.get_device_name() if on_gpu else f"CPU, {arguments.threads} threads"}
    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.models:
            result[model] = bench(Path(folder, model), model, arguments, on_gpu)
            print(model, json.dumps(result[model]), flush=True)
        if arguments.memory_parts:
            result["rss_mb"] = memory(Path(folder, "memory"), arguments.memory_parts)
    print(json.dumps(result))


def bench(folder: Path, model: str, arguments: argparse.Namespace, on_gpu: bool) -> dict[str, Any]:
    recipe = recipe_of(folder, model, arguments.rows_per_part, arguments.batch_size, arguments.threads, int(on_gpu))
    images = write_images(recipe, arguments.rows, arguments.rows_per_part)
    torch.set_num_threads(arguments.threads)
    measured = bare_parts(recipe, images.read(0, ["caption", "image"]), arguments)
    forwards, stages = [measured["forward_only"]()], []
    with connected(recipe.cluster):
        for _ in range(arguments.rounds):  # alternately, since the machine's speed drifts
            stages.append(steady_rate(embed.run(recipe)))
            forwards.append(measured["forward_only"]())
            shutil.rmtree(Path(recipe.database, "embeddings"))
    ratio = float(
        np.median(
            [2 * stage / (before + after) for stage, before, after in zip(stages, forwards, forwards[1:], strict=False)]
        )
    )
    rates = {"stage": float(np.median(stages)), "forward_only": float(np.median(forwards))}
    rates |= {name: measure() for name, measure in measured.items() if name not in rates}
    starves = min(("decode", "tokenize"), key=lambda part: rates[part])
    aim = 0.90 if on_gpu else 0.95
    verdict = {"ratio": round(ratio, 3), "aim": aim, "starved_by": "" if ratio >= aim else starves}
    return {
        f"{name}_pairs_per_s" if name != "stage" else "stage": round(rate, 2) for name, rate in rates.items()
    } | verdict


def recipe_of(folder: Path, model: str, rows_per_part: int, batch_size: int, threads: int, gpus: int) -> Recipe:
    folder.mkdir(parents=True)
    values = {
        "name": "bench",
        "database": str(folder / "database"),
        "out": str(folder / "run"),
        "backbone": {"name": model, "pretrained": "random"},
        "ingest": {"source": "nowhere", "rows_per_part": rows_per_part},
        "embed": {"batch_size": batch_size},
        "cluster": {"num_cpus": threads + 1, "threads_per_actor": threads, "gpus_per_actor": gpus, "memory_gb": 64},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return load_recipe(str(folder / "recipe.yaml"))


def write_images(recipe: Recipe, num_rows: int, rows_per_part: int, side: int = 256) -> Artifact:
    """Writes `images/` as ingest would: 64 different images, and a different caption for each row."""
    random = np.random.default_rng(0)
    encoded = [jpeg(side, side, 95, 1.6, seed) for seed in range(min(64, num_rows))]
    images = create(f"{recipe.database}/images", IMAGES, {}, {}, -(-num_rows // rows_per_part))
    for part in range(images.num_parts):
        rows = range(part * rows_per_part, min(num_rows, (part + 1) * rows_per_part))
        captions = [f"{' '.join(random.choice(WORDS, int(random.integers(4, 20))))} {row}" for row in rows]
        columns = {"pair_id": pa.array(pair_ids(part, len(rows))), "caption": captions}
        columns["image"] = pa.array([encoded[row % len(encoded)] for row in rows], pa.binary())
        columns["status"] = ["ok"] * len(rows)
        images.commit(part, pa.table(columns), 0.0)
    return images.seal()


def steady_rate(embeddings: Artifact) -> float:
    """Returns the pairs/s from the start of the first part in the actor to the last receipt."""
    written = {r.part: Path(embeddings.uri, f"part-{r.part:05d}.json").stat().st_mtime for r in embeddings.receipts()}
    begin = min(written[receipt.part] - receipt.seconds for receipt in embeddings.receipts())
    assert embeddings.manifest.ok == embeddings.rows
    return embeddings.rows / (max(written.values()) - begin)


def bare_parts(recipe: Recipe, rows: pa.Table, arguments: argparse.Namespace) -> dict[str, Callable[[], float]]:
    """Returns functions that measure the pairs/s of each component by itself, on the first part of the artifact."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = load_backbone(embed.embedding_backbone(recipe), device=device, seed=recipe.seed)
    model: Any = backbone.model
    encoded, captions = rows["image"].to_pylist(), rows["caption"].to_pylist()
    pool = ThreadPoolExecutor(arguments.threads)

    def decode() -> list[np.ndarray]:
        how = (arguments.batch_size, backbone.image_size, backbone.crop, backbone.interpolation, pool)
        return [pixels for pixels, _ in decoded_batches(encoded, *how)]

    decoded = decode()
    tokens_NT = backbone.tokenizer(captions)
    tokens_NT = tokens_NT[tokens_NT.argmax(dim=1).argsort(stable=True)]
    length_N = tokens_NT.argmax(dim=1) + 1
    slices = list(Embedder(backbone, arguments.batch_size, device).batches(len(tokens_NT), length_N))
    images = [backbone.normalize(torch.from_numpy(pixels)) for pixels in decoded]
    texts = [tokens_NT[piece, : int(length_N[piece][-1])].to(device) for piece in slices]
    whole = [tokens_NT[i : i + arguments.batch_size].to(device) for i in range(0, len(tokens_NT), arguments.batch_size)]

    def forward() -> None:
        with torch.inference_mode(), backbone.autocast():
            for image_BCHW in images:
                image_features(model, image_BCHW)
            for text_BT in texts:
                text_features(model, text_BT, text_BT.shape[1])
        synchronize()

    def open_clip() -> None:
        with torch.inference_mode(), backbone.autocast():
            for image_BCHW in images:
                model.encode_image(image_BCHW)
            for text_BT in whole:
                model.encode_text(text_BT)
        synchronize()

    forward()
    actions: dict[str, Callable[[], Any]] = {"forward_only": forward, "open_clip": open_clip, "decode": decode}
    actions["tokenize"] = lambda: backbone.tokenizer(captions)
    return {name: partial(rate, len(captions), action) for name, action in actions.items()}


def rate(num_rows: int, action: Callable[[], Any]) -> float:
    return num_rows / seconds(action)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(action: Callable[[], Any], at_least_s: float = 3.0) -> float:
    """Returns the mean duration of as many calls as fill the time."""
    began, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - began < at_least_s:
        action()
        calls += 1
    return (time.perf_counter() - began) / calls


def memory(folder: Path, num_parts: int) -> dict[str, dict[str, int]]:
    """Returns the RSS of this process and of the actor, MB, after 10, 50 and 100 % of the parts, and its private share.

    The rest is Ray's object store, whose pages count for every process that has read them.
    """
    recipe = recipe_of(folder, str(TINY), 64, 64, 1, 0)
    write_images(recipe, num_parts * 64, 64, side=64)
    found: dict[str, dict[str, int]] = {}
    place = Path(recipe.database, "embeddings")

    def watch() -> None:
        for share in (0.1, 0.5, 1.0):
            while len(list(place.glob("part-*.json"))) < share * num_parts:
                time.sleep(0.01)
            me = psutil.Process()
            below = [p for p in me.children(recursive=True) if "MapWorker" in " ".join(p.cmdline())]
            (actor,) = below
            found[f"{share:.0%}"] = {
                f"{who}{what}": value >> 20
                for who, process in (("driver", me), ("actor", actor))
                for what, value in (("", process.memory_info().rss), ("_private", process.memory_full_info().uss))
            }

    with connected(recipe.cluster):
        watcher = threading.Thread(target=watch)
        watcher.start()
        embed.run(recipe)
        watcher.join()
    assert open_artifact(str(place), EMBEDDINGS).num_parts == num_parts
    return found


if __name__ == "__main__":
    main()
