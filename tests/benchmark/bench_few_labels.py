"""Compares what retrieval, a few labels and both teach a linear head: the arms of customize.labelled, on the sample.

Takes the folder of a finished demo (`make demo`), whose arm `linear` has the features of its pairs. The labelled images
are the pool's drawings whose file names name a class (tests/support/pool_labels.py), so the labels are clean, and the
drawings are by the pool's artists, as the retrieved pairs are. Four lines: pairs alone; labels alone; both mixed, as
customize.labelled_share; and mixed, then the labels alone from there on (SWAT's two stages). Shares, steps and learning
rates are chosen on the validation artists with seed 0, each line's by its own mean over the numbers of shots; --test
scores these choices on the test artist. Each line is top-1 as the mean over tasks and as the share of all images, with
the difference from pairs alone, and of mixed lines from labels alone, and their 95 % intervals (the report's paired
bootstrap over images and seeds). The last line of the output is one JSON object. Next: bench_labels.py.

    python -m tests.benchmark.bench_few_labels [--run runs/sample] [--cells] [--test] [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from react_ray.artifact import open_artifact
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import load_tasks
from react_ray.clip.weights import read_weights
from react_ray.evals.few_shot import in_order
from react_ray.evals.zeroshot import predict
from react_ray.gated.load import load_backbone
from react_ray.kinds import FEATURES
from react_ray.recipe import recipe_of
from react_ray.report.intervals import paired_gain
from react_ray.stages.training.stored_vectors import trained
from react_ray.storage import open_parquet
from react_ray.training.head_file import Head
from react_ray.training.labelled_share import copies
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.step import class_weights
from react_ray.vectors import from_vectors
from tests.support.pool_labels import HELD_OUT, labelled_pool

SHOTS, SEEDS = (1, 4, 16), (0, 1, 2)
STEPS = {"pairs": (300,), "labels": (100, 300), "mixed": (300,)}
SHARES = (0.25, 0.5)
SECOND = ((0.003, 100), (0.001, 100))  # learning rate and steps of the labels' turn
Right = list[np.ndarray]  # for each task, int [seeds, images]: 1 = the prediction is right


class Setting(NamedTuple):
    line: str
    steps: int
    share: float = 0.0
    second: tuple[float, int] | None = None

    def __str__(self) -> str:
        told = f"{self.line}: {self.steps} steps" + f", share {self.share:g}" * bool(self.share)
        return told + (f", then {self.second[1]} steps at {self.second[0]:g}" if self.second else "")


class Drawings:
    """All vectors: of the pairs, of the labelled drawings and of the held-out ones, on the base with 6 x 6 cells."""

    def __init__(self, run: str, cells: bool, cache: str) -> None:
        self.recipe = recipe_of(Path(run, "recipe.yaml").read_bytes(), run)
        self.config = self.recipe.arm("linear").customize
        self.tasks = load_tasks(self.recipe.tasks)
        self.classes = [(task.name, name) for task in self.tasks for name in task.class_names]
        backbone = load_backbone(self.recipe.backbone, seed=0)
        self.dim, self.cells = backbone.dim, cells
        self.embedder = Embedder(backbone, 64, "cpu", grid=self.config.head_grid)
        self.cache, vectors = cache, Path(cache, "vectors.npz")
        stored = np.load(vectors) if cache and vectors.exists() else self._embedded()
        if cache and not vectors.exists():
            vectors.parent.mkdir(parents=True, exist_ok=True)
            np.savez(vectors, **stored)
        features = open_artifact(str(Path(run, "arms/linear/features")), FEATURES)
        table = pa.concat_tables(features.read(part) for part in range(features.num_parts - 1))
        prompt_CD = read_weights(features.local_file(features.num_parts - 1, "prompts.safetensors"))["prompts"].numpy()
        image_ND = self._wanted(from_vectors(table["image"]))
        self.start_CD = np.pad(prompt_CD, ((0, 0), (0, image_ND.shape[1] - prompt_CD.shape[1])))
        matched = table["matched"].to_pylist()
        self.pairs = LabelledVectors.of_matched(image_ND, table["class_id"].to_numpy(), matched)
        self.labelled_ND, self.class_id_N = self._wanted(stored["labelled"]), stored["labelled_classes"]
        self.held = {name: (self._wanted(stored[name]), stored[f"{name}_classes"]) for name in HELD_OUT}

    def _wanted(self, image_ND: np.ndarray) -> np.ndarray:
        if self.cells:
            return image_ND
        plain_ND = image_ND[:, : self.dim].astype(np.float32)
        return (plain_ND / np.linalg.norm(plain_ND, axis=1, keepdims=True)).astype(np.float16)

    def _embedded(self) -> dict[str, np.ndarray]:
        number = {one: place for place, one in enumerate(self.classes)}
        labelled = labelled_pool(self.tasks)
        out = {"labelled": self._embed([image for image, *_ in labelled])}
        out["labelled_classes"] = np.array([number[task, label] for _, task, label in labelled])
        for name, table in ((name, open_parquet(uri).read()) for name, uri in HELD_OUT.items()):
            names = zip(table["task"].to_pylist(), table["label"].to_pylist(), strict=True)
            out |= {
                name: self._embed(table["image"].to_pylist()),
                f"{name}_classes": np.array([number[n] for n in names]),
            }
        return out

    def _embed(self, images: list[bytes]) -> np.ndarray:
        return self.embedder.embed_images(self.embedder.decode(images)[0])

    def shots(self, shots: int, seed: int) -> LabelledVectors:
        drawn = [in_order(self.class_id_N, one, seed)[:shots] for one in np.unique(self.class_id_N)]
        rows = np.sort(np.concatenate(drawn))
        return LabelledVectors.of_one_class(self.labelled_ND[rows], self.class_id_N[rows])

    def head(self, setting: Setting, shots: int, seed: int) -> np.ndarray:
        """float32 [C, D], as `customize` trains it."""
        head_CD = self.first(setting._replace(line="mixed", second=None) if setting.second else setting, shots, seed)
        if setting.second:
            labelled, (lr, steps) = self.shots(shots, seed), setting.second
            weight_C = class_weights(labelled.class_id_NL[:, 0], len(self.classes), 1.0)
            head_CD = self._fit(labelled, head_CD, lr, steps, seed, weight_C)
        return head_CD

    @lru_cache(maxsize=12)  # noqa: B019 - one object lives as long as the script
    def first(self, setting: Setting, shots: int, seed: int) -> np.ndarray:
        vectors = self.pairs
        if setting.line != "pairs":
            labelled, alone = self.shots(shots, seed), setting.line == "labels"
            vectors = vectors.rows(slice(0, 0)) if alone else vectors
            copies_N = copies(labelled.class_id_NL[:, 0], len(vectors.image_ND), 1.0 if alone else setting.share)
            vectors = vectors.with_others(labelled, copies_N)
        return self._fit(vectors, self.start_CD, self.config.head_lr, setting.steps, seed)

    def _fit(
        self, vectors: LabelledVectors, start_CD: np.ndarray, lr: float, steps: int, seed: int, weight_C: Any = None
    ) -> np.ndarray:
        config = self.config.model_copy(update={"lr": lr, "warmup_steps": 0})
        return trained(vectors, start_CD, self.classes, config, seed, weight_C, steps)

    @cache  # noqa: B019
    def right(self, setting: Setting, shots: int, seed: int) -> dict[str, Right]:
        """Of each held-out set."""
        kept = Path(self.cache, f"{setting} {shots} shots, seed {seed}{', cells' * self.cells}.npz")
        if not (self.cache and kept.exists()):
            head_CD = self.head(setting, shots, seed)
            found = {dataset: self._right(head_CD, dataset) for dataset in HELD_OUT}
            if not self.cache:
                return found
            arrays: dict[str, Any] = {f"{n} {task}": one for n, of in found.items() for task, one in enumerate(of)}
            np.savez(kept, **arrays)
        loaded = np.load(kept)
        return {name: [loaded[f"{name} {task}"] for task in range(len(self.tasks))] for name in HELD_OUT}

    def _right(self, head_CD: np.ndarray, dataset: str) -> Right:
        tensors = {"head": torch.from_numpy(head_CD), "start": torch.from_numpy(self.start_CD.copy())}
        settings = {"head_scale": self.config.head_scale}
        head = Head("linear", self.classes, tensors, settings, {}, self.recipe.evaluate.wise_ft)
        image_ND, class_id_N = self.held[dataset]
        out = []
        for task, scorer in head.scorers().items():
            classes = head.tasks[task]
            rows = np.flatnonzero((class_id_N >= classes.start) & (class_id_N < classes.stop))
            names = [name for _, name in self.classes[classes]]
            labels = [self.classes[number][1] for number in class_id_N[rows]]
            found = predict(image_ND[rows], scorer, names, labels, dataset, task)
            out.append((found["rank"].to_numpy() == 0).astype(np.int64)[None])
        return out


def settings() -> Iterator[Setting]:
    for line in ("pairs", "labels"):
        yield from (Setting(line, steps) for steps in STEPS[line])
    for share in SHARES:
        for steps in STEPS["mixed"]:
            yield Setting("mixed", steps, share)
            yield from (Setting("mixed, then labels", steps, share, second) for second in SECOND)


def seeds_of(drawings: Drawings, setting: Setting, shots: int, dataset: str, seeds: tuple[int, ...] = SEEDS) -> Right:
    found = [drawings.right(setting, shots, seed)[dataset] for seed in seeds]
    return [np.concatenate(of_task) for of_task in zip(*found, strict=True)]


def values(right: Right) -> list[float]:
    """Mean over tasks, and share of all images."""
    return [float(np.mean([one.mean() for one in right])), float(np.concatenate(right, axis=1).mean())]


def gains(right: Right, against: Right) -> list[list[float]]:
    differences = [one - other for one, other in zip(right, against, strict=True)]
    found = paired_gain(differences), paired_gain([np.concatenate(differences, axis=1)])
    return [[gain.value, gain.low, gain.high] for gain in found]


def text(numbers: list[float], differences: list[list[float]]) -> str:
    if not differences:
        return ", ".join(f"{100 * value:.1f}" for value in numbers)
    pairs = zip(numbers, differences, strict=True)
    return ", ".join(
        f"{100 * v:.1f} ({100 * g:+.1f} [{100 * low:.1f}, {100 * high:.1f}])" for v, (g, low, high) in pairs
    )


def choose(drawings: Drawings) -> dict[str, Setting]:
    """The best setting of each line on validation, by the sum of both figures over all numbers of shots."""
    best: dict[str, tuple[float, Setting]] = {}
    for setting in settings():
        shots = (0,) if setting.line == "pairs" else SHOTS
        found = [values(seeds_of(drawings, setting, one, "validation", SEEDS[:1])) for one in shots]
        score = float(np.mean(found))
        print(f"validation  {setting}: {'; '.join(text(one, []) for one in found)}", flush=True)
        best[setting.line] = max(best.get(setting.line, (0.0, setting)), (score, setting), key=lambda one: one[0])
    return {line: setting for line, (_, setting) in best.items()}


def compare(drawings: Drawings, chosen: dict[str, Setting], dataset: str) -> dict[str, Any]:
    pairs = seeds_of(drawings, chosen["pairs"], 0, dataset)
    out: dict[str, Any] = {"pairs": {"setting": str(chosen["pairs"]), "top1": values(pairs)}}
    print(f"{dataset}  {chosen['pairs']}: {text(values(pairs), [])}")
    for shots in SHOTS:
        counts = np.minimum(np.unique(drawings.class_id_N, return_counts=True)[1], shots)
        print(f"{dataset}  at most {shots} of each class: {counts.sum():,} drawings of {len(counts)} classes")
        rights: dict[str, Right] = {}
        for line in ("labels", "mixed", "mixed, then labels"):
            rights[line] = seeds_of(drawings, chosen[line], shots, dataset)
            row: dict[str, Any] = {"setting": str(chosen[line]), "shots": shots, "labelled": int(counts.sum())}
            row |= {"top1": values(rights[line]), "over_pairs": gains(rights[line], pairs)}
            told = text(row["top1"], row["over_pairs"])
            if line != "labels":
                row["over_labels"] = gains(rights[line], rights["labels"])
                told += f"; over labels {text(row['top1'], row['over_labels'])}"
            print(f"  {chosen[line]}: {told}", flush=True)
            out[f"{line} {shots}"] = row
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/sample", help="folder of a finished demo")
    parser.add_argument("--cells", action="store_true", help="heads that see the 6 x 6 cells, as the demo's")
    parser.add_argument("--test", action="store_true", help="score the choices on the test artist, too")
    parser.add_argument("--cache", default="", help="a folder in which vectors and predictions stay, for the next run")
    given = parser.parse_args()
    torch.set_num_threads(2)
    drawings = Drawings(given.run, given.cells, given.cache)
    chosen = choose(drawings)
    found = {"validation": compare(drawings, chosen, "validation")}
    if given.test:
        found["test"] = compare(drawings, chosen, "test")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
