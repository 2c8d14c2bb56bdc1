"""Compares ways to clean the labels of what was retrieved, by the classifiers that are made of them.

Takes the folder of a finished demo whose database has image vectors (`react-ray run recipes://sample.yaml
embed.images=true`), and scores on the validation artists alone. Agreement of a pair is the share of the task's classes
that its image ranks below the class that its caption was found for: at 1 image and caption name one class. Each line
has the pairs with their precision, and for each arm top-1 as the mean over tasks and as the share of all images, each
with its difference from the first line and the 95% interval of that (the report's paired bootstrap; linear has three
seeds). --head trains linear heads with 6 x 6 cells on the demo's pairs instead, one seed. The last line is one JSON
object. Next: bench_names.py.

    python -m tests.benchmark.bench_labels [--run runs/sample] [--per-class 6] [--head]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from react_ray import schema
from react_ray.artifact import open_artifact
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import load_tasks
from react_ray.clip.weights import read_weights
from react_ray.evals.zeroshot import predict
from react_ray.gated.load import load_backbone
from react_ray.index.exact import RunningTopK
from react_ray.kinds import EMBEDDINGS, FEATURES, PAIRS, QUERIES
from react_ray.recipe import recipe_of
from react_ray.report.intervals import paired_gain
from react_ray.selection.name_match import NameMatch
from react_ray.selection.select import select
from react_ray.selection.soft_classes import soft_classes
from react_ray.stages.retrieval.gather_pairs import class_vectors
from react_ray.stages.training.stored_vectors import trained
from react_ray.storage import open_parquet
from react_ray.training.head_file import SETTINGS, Head
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.vectors import from_vectors

ARMS = ("linear", "knn", "cache")
SEEDS = {"linear": (0, 1, 2)}
Right = list[np.ndarray]  # for each task, int [seeds, images]: 1 = the prediction is right
Make = Callable[[pa.Table, LabelledVectors, np.ndarray], Right]  # pairs, their labels, the prompts to start from


class Sample:
    def __init__(self, run: str) -> None:
        def whole(kind: Any, *folders: str) -> pa.Table:
            return pa.concat_tables(open_artifact(str(Path(run, *folders)), kind).tables())

        torch.set_num_threads(1)
        self.run, self.recipe = run, recipe_of(Path(run, "recipe.yaml").read_bytes(), run)
        embeddings, pairs = whole(EMBEDDINGS, "database", "embeddings"), whole(PAIRS, "database", "pairs")
        self.ids, self.queries = embeddings["pair_id"].to_numpy(), whole(QUERIES, "queries")
        self.image_ND, self.text_ND = (from_vectors(embeddings[key]) for key in ("image", "text"))
        if not np.isfinite(self.image_ND).any():
            raise SystemExit(f"{run}: its database has no image vectors; run the demo with embed.images=true")
        self.captions, self.keys = pairs["caption"].to_pylist(), pairs["key"].to_pylist()
        self.tasks = load_tasks(self.recipe.tasks)
        self.classes = [(task.name, name) for task in self.tasks for name in task.class_names]
        self.task_C = np.array([task for task, _ in self.classes])
        self.finder = NameMatch([(number, 0, name) for number, (_, name) in enumerate(self.classes)])
        self.start_CD = class_vectors(open_artifact(str(Path(run, "queries")), QUERIES))
        self.backbone = load_backbone(self.recipe.backbone, seed=0)
        labelled = open_parquet("sample://validation.parquet").read()
        embedder = Embedder(self.backbone, 64, "cpu")
        self.pixels, _ = embedder.decode(labelled["image"].to_pylist())
        self.labelled_ND = embedder.embed_images(self.pixels)
        self.tasks_N, self.labels_N = (np.array(labelled[name].to_pylist()) for name in ("task", "label"))

    @property
    def arms(self) -> dict[str, Make]:
        return {arm: partial(self.arm, arm) for arm in ARMS}

    def retrieve(self, queries_CD: np.ndarray, pairs_per_class: int) -> pa.Table:
        """The pairs of each class by their captions, as in the demo."""
        config = self.recipe.retrieve
        config = config.model_copy(update={"k": max(config.k, pairs_per_class), "pairs_per_class": pairs_per_class})
        best = RunningTopK(config.k)
        best.update(queries_CD.astype(np.float32), self.ids, self.text_ND.astype(np.float32))
        query, pair_id, score, rank = best.result().rows()
        columns = {"query_id": query, "pair_id": pair_id, "score": score, "rank": rank, "key": ["text"] * len(query)}
        return select(schema.conform(pa.table(columns), schema.HITS), self.queries, config)

    def named(self, chosen: pa.Table, texts: list[str]) -> np.ndarray:
        """bool [N]: the text of each pair contains its class's name."""
        rows = np.searchsorted(self.ids, chosen["pair_id"].to_numpy()).tolist()
        found = zip(rows, chosen["class_id"].to_pylist(), strict=True)
        return np.array([class_id in {number for number, _ in self.finder.find(texts[row])} for row, class_id in found])

    def renamed(self, chosen: pa.Table) -> pa.Table:
        """With the class of the longest name in the caption, if that names classes of the task but not the pair's."""
        class_id = chosen["class_id"].to_numpy().copy()
        rows = np.searchsorted(self.ids, chosen["pair_id"].to_numpy())
        for pair in np.flatnonzero(~self.named(chosen, self.captions)):
            found = [number for number, _ in self.finder.find(self.captions[rows[pair]])]
            found = [number for number in found if self.task_C[number] == self.task_C[class_id[pair]]]
            class_id[pair] = max(found, key=lambda number: len(self.classes[number][1]), default=class_id[pair])
        return chosen.set_column(chosen.column_names.index("class_id"), "class_id", pa.array(class_id, pa.int32()))

    def cosines(self, chosen: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """float32 [N, C], -inf for classes of other tasks than the pair's own, and [N] of its own class."""
        class_id = chosen["class_id"].to_numpy()
        image_ND = self.image_ND[np.searchsorted(self.ids, chosen["pair_id"].to_numpy())].astype(np.float32)
        cosine_NC = np.where(self.task_C == self.task_C[class_id][:, None], image_ND @ self.start_CD.T, -np.inf)
        return cosine_NC, cosine_NC[np.arange(len(class_id)), class_id]

    def agreement(self, chosen: pa.Table) -> np.ndarray:
        cosine_NC, own_N = self.cosines(chosen)
        others = np.isfinite(cosine_NC).sum(axis=1) - 1
        return ((cosine_NC < own_N[:, None]) & np.isfinite(cosine_NC)).sum(axis=1) / others

    def confidence(self, chosen: pa.Table) -> np.ndarray:
        """The share of the own class in the softmax over the classes of the task, at the model's scale."""
        cosine_NC, own_N = self.cosines(chosen)
        scale = float(self.backbone.model.logit_scale.detach().exp())
        return 1 / np.exp(scale * (cosine_NC - own_N[:, None])).sum(axis=1)

    def right(self, head: Head, labelled_ND: np.ndarray) -> Right:
        out = []
        for task, scorer in head.scorers().items():
            rows = np.flatnonzero(self.tasks_N == task)
            names = [name for _, name in head.classes[head.tasks[task]]]
            found = predict(labelled_ND[rows], scorer, names, self.labels_N[rows].tolist(), "validation", task)
            out.append((found["rank"].to_numpy() == 0).astype(np.int64)[None])
        return out

    def prompts(self, class_CD: np.ndarray) -> Right:
        tensors = {"head": torch.from_numpy(class_CD), "start": torch.from_numpy(class_CD)}
        return self.right(Head("linear", self.classes, tensors, {"head_scale": 1.0}, {}), self.labelled_ND)

    def arm(self, kind: str, _: pa.Table, vectors: LabelledVectors, start_CD: np.ndarray) -> Right:
        config = self.recipe.arm(kind).customize
        found = []
        for seed in SEEDS.get(kind, (0,)):
            if kind == "linear":
                arrays = {"head": trained(vectors, start_CD, self.classes, config, seed), "start": start_CD}
            else:
                arrays = {
                    "keys": vectors.image_ND,
                    "key_classes": vectors.class_id_NL,
                    "key_weights": vectors.weight_NL,
                }
                arrays |= {"start": start_CD} if kind == "cache" else {}
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            settings = {name: getattr(config, name) for name in SETTINGS[kind]}
            head = Head(kind, self.classes, tensors, settings, {}, self.recipe.evaluate.wise_ft)
            found.append(self.right(head, self.labelled_ND))
        return [np.concatenate(of_task) for of_task in zip(*found, strict=True)]


class Cells:
    """Heads on the base with 6 x 6 cells: the features that the demo's arm `linear` stored."""

    def __init__(self, sample: Sample) -> None:
        self.sample, self.config = sample, sample.recipe.arm("linear").customize
        features = open_artifact(str(Path(sample.run, "arms/linear/features")), FEATURES)
        tables = pa.concat_tables(features.read(part) for part in range(features.num_parts - 1))
        self.row_of = {pair_id: row for row, pair_id in enumerate(tables["pair_id"].to_pylist())}
        self.image_ND = from_vectors(tables["image"])
        embedder = Embedder(sample.backbone, 64, "cpu", grid=self.config.head_grid)
        self.labelled_ND = embedder.embed_images(sample.pixels)
        prompt_CD = read_weights(str(Path(sample.run, "arms/linear/features/prompts.safetensors")))["prompts"].numpy()
        self.start_CD = np.pad(prompt_CD, ((0, 0), (0, self.image_ND.shape[1] - prompt_CD.shape[1])))

    def head(self, chosen: pa.Table, labels: LabelledVectors, _: np.ndarray) -> Right:
        rows = [self.row_of[pair_id] for pair_id in chosen["pair_id"].to_pylist()]
        vectors = LabelledVectors(self.image_ND[rows], labels.class_id_NL, labels.weight_NL)
        config = self.config.model_copy(update={"lr": self.config.head_lr, "warmup_steps": 0})
        classes = self.sample.classes
        head_CD = trained(vectors, self.start_CD, classes, config, 0, None, config.head_steps)
        tensors = {"head": torch.from_numpy(head_CD), "start": torch.from_numpy(self.start_CD)}
        settings, weight = {"head_scale": config.head_scale}, self.sample.recipe.evaluate.wise_ft
        return self.sample.right(Head("linear", classes, tensors, settings, {}, weight), self.labelled_ND)


def labels(sample: Sample, chosen: pa.Table, soft: bool = True, weight_N: np.ndarray | None = None) -> LabelledVectors:
    class_id = chosen["class_id"].to_numpy().astype(np.int32)
    image_ND = sample.image_ND[np.searchsorted(sample.ids, chosen["pair_id"].to_numpy())]
    matched = soft_classes(chosen["class_id"], chosen["matches"]).to_pylist() if soft else [[]] * len(class_id)
    found = LabelledVectors.of_matched(image_ND, class_id, matched)
    if weight_N is None:
        return found
    return LabelledVectors(image_ND, found.class_id_NL, found.weight_NL * weight_N.astype(np.float32)[:, None])


def told(right: Right, against: Right | None) -> tuple[str, list[float]]:
    """Mean over tasks and share of all images, each with its difference."""
    values = [float(np.mean([one.mean() for one in right])), float(np.concatenate(right, axis=1).mean())]
    text = f"{100 * values[0]:.1f}, {100 * values[1]:.1f}"
    if against is not None:
        differences = [one - other for one, other in zip(right, against, strict=True)]
        for gain in (paired_gain(differences), paired_gain([np.concatenate(differences, axis=1)])):
            text += f" ({100 * gain.value:+.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}])"
    return text, values


class Block:
    """Lines that are compared with their first."""

    def __init__(self, sample: Sample, ways: Mapping[str, Make]) -> None:
        self.sample, self.ways = sample, ways
        self.first: dict[str, Right] = {}
        self.out: dict[str, Any] = {}

    def line(self, name: str, chosen: pa.Table, vectors: LabelledVectors, start_CD: np.ndarray | None = None) -> None:
        sample = self.sample
        precision = [float(sample.named(chosen, texts).mean()) for texts in (sample.captions, sample.keys)]
        print(f"{name}: {chosen.num_rows:,} pairs, named {precision[0]:.3f}, filed {precision[1]:.3f}")
        scores: dict[str, Any] = {"pairs": chosen.num_rows, "precision": precision}
        for way, make in self.ways.items():
            right = make(chosen, vectors, sample.start_CD if start_CD is None else start_CD)
            text, scores[way] = told(right, self.first.get(way))
            self.first.setdefault(way, right)
            print(f"  {way:8}{text}", flush=True)
        self.out[name] = scores


def compare_labels(sample: Sample, pairs_per_class: int, ways: Mapping[str, Make]) -> dict[str, Any]:
    block = Block(sample, ways)
    chosen = sample.retrieve(from_vectors(sample.queries["embedding"]), pairs_per_class)
    block.line("all classes that matched, softly", chosen, labels(sample, chosen))
    block.line("the best class alone", chosen, labels(sample, chosen, soft=False))
    renamed = sample.renamed(chosen)
    block.line("the best class alone, or another that the caption names", renamed, labels(sample, renamed, soft=False))
    agreement, named = sample.agreement(chosen), sample.named(chosen, sample.captions)
    kept = {"oracle: caption or file names the class": named | sample.named(chosen, sample.keys)}
    kept |= {f"agreement >= {least}": agreement >= least for least in (0.75, 0.5, 0.9)}
    kept |= {"caption names the class": named, "that, or agreement >= 0.9": named | (agreement >= 0.9)}
    for name, rows in kept.items():
        some = chosen.filter(pa.array(rows))
        block.line(name, some, labels(sample, some))
    weights = {"agreement": np.maximum(agreement, 0.01), "root of confidence": np.sqrt(sample.confidence(chosen))}
    for name, weight in weights.items():
        block.line(f"weighted by {name}", chosen, labels(sample, chosen, weight_N=weight))
    return block.out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/sample", help="folder of a finished demo, with its database in it")
    parser.add_argument("--per-class", type=int, default=0, help="pairs of each class; 0 = as many as the demo's")
    parser.add_argument("--head", action="store_true", help="heads with cells, of the demo's pairs")
    given = parser.parse_args()
    sample = Sample(given.run)
    wanted = given.per_class or sample.recipe.retrieve.pairs_per_class
    print(json.dumps(compare_labels(sample, wanted, {"head": Cells(sample).head} if given.head else sample.arms)))


if __name__ == "__main__":
    main()
