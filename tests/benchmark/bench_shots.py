"""Few and full shot on the sample's drawings: what is learned on the vectors of the base and of the customised models.

The labelled drawings are the pool's (tests/support/pool_labels.py), in the tasks of which every class has three or
more, so that of 4 shots a class may have 3; the test artist drew none of them. Figures are top-1 in points as the mean
over these tasks, with the 95 % interval of the report's paired bootstrap over images and draws. Those of customised
models have the difference from the base by the same method. Methods and their choices are those of `evaluate`. The last
line is one JSON object.

    python -m tests.benchmark.bench_shots [--run runs/sample] [--shots 1 2 4 -1] [--dataset test]
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from react_ray.clip.backbone import Backbone
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask, TasksConfig, load_tasks
from react_ray.evals.classify import embed_rows
from react_ray.evals.few_shot import ShotMethod, in_order
from react_ray.evals.score import ALL_SHOTS
from react_ray.evals.shot_methods import Shots, learn
from react_ray.gated.load import load_backbone, load_customised
from react_ray.gated.trained import trained_models
from react_ray.report.intervals import paired_gain
from react_ray.report.numbers import gain_interval, interval, points
from react_ray.storage import open_parquet
from tests.support.pool_labels import HELD_OUT, Drawing, labelled_pool

BASE = BackboneConfig(name="sample://base_clip.json", pretrained="sample://base_clip.safetensors")
METHODS: tuple[ShotMethod, ...] = ("linear-probe", "tip-adapter")
SEEDS = (0, 1, 2)
FEWEST = 3
Hits = list[np.ndarray]  # of each task: int [draws, images], 1 = right


class TaskSet:
    """The drawings of one task, to learn from and to test on."""

    def __init__(self, task: TargetTask, pool: list[Drawing], dataset: str) -> None:
        self.task = task
        held = open_parquet(HELD_OUT[dataset]).read()
        test = [Drawing(*row) for row in zip(*(held[name].to_pylist() for name in Drawing._fields), strict=True)]
        self.test, self.train = ([one for one in some if one.task == task.name] for some in (test, pool))
        self.test_label_N, self.label_N = self._labels(self.test), self._labels(self.train)

    def _labels(self, some: list[Drawing]) -> np.ndarray:
        return np.array([self.task.class_names.index(one.label) for one in some])

    def drawn(self, shots: int, seed: int) -> np.ndarray:
        """int64: the rows that `evaluate` draws; where a class has fewer than shots, all of its rows."""
        most = None if shots == ALL_SHOTS else shots
        return np.concatenate([in_order(self.label_N, c, seed)[:most] for c in range(len(self.task.class_names))])

    @property
    def fewest(self) -> int:
        return int(np.bincount(self.label_N, minlength=len(self.task.class_names)).min())


def scored(backbone: Backbone, sets: list[TaskSet], shots: list[int]) -> dict[str, Hits]:
    """By the name of the figure."""
    embedder = Embedder(backbone, 64, "cpu")
    found: dict[str, Hits] = {"zero-shot": []}
    for of in sets:
        test_ND, train_ND = (embed_rows([one.image for one in some], embedder, 1) for some in (of.test, of.train))
        text_CD = embedder.zero_shot_classifier(of.task)
        found["zero-shot"].append(_right(test_ND.astype(np.float32) @ text_CD.T, of)[None])
        for method in METHODS:
            for number in shots:
                hits = []
                for seed in SEEDS[:1] if number == ALL_SHOTS else SEEDS:
                    rows = of.drawn(number, seed)
                    drawn = Shots(train_ND[rows], of.label_N[rows], text_CD, seed)
                    [learned] = learn(method, drawn, test_ND, of.test_label_N)
                    hits.append(_right(learned.score_NC, of))
                name = f"{method}, {'all' if number == ALL_SHOTS else number}"
                found.setdefault(name, []).append(np.stack(hits))
    return found


def _right(score_NC: np.ndarray, of: TaskSet) -> np.ndarray:
    return (score_NC.argmax(axis=1) == of.test_label_N).astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="", help="folder of a finished demo, whose customised models are scored too")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 4, ALL_SHOTS], help="-1 = all")
    parser.add_argument("--dataset", choices=list(HELD_OUT), default="test")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tasks = load_tasks(TasksConfig(file="sample://tasks.json"))
    pool = labelled_pool(tasks)
    sets = [of for of in (TaskSet(task, pool, given.dataset) for task in tasks) if of.fewest >= FEWEST]
    for of in sets:
        print(f"{of.task.name}: {len(of.test)} images, {len(of.train)} to learn from, {of.fewest} or more of a class")
    models = {"base": load_backbone(BASE)}
    for model in trained_models(given.run) if given.run else []:
        if not model.head:
            models[model.arm] = load_customised(model.uri, model.wise_ft)
    of_base: dict[str, Hits] = {}
    out: dict[str, dict[str, list[float]]] = {}
    for name, backbone in models.items():
        print(name)
        figures = scored(backbone, sets, given.shots)
        of_base = of_base or figures
        for figure, hits in figures.items():
            value = paired_gain(hits)
            out.setdefault(name, {})[figure] = [value.value, value.low, value.high]
            told = f"{points(value.value)} {interval(value)}"
            if figures is not of_base:
                pairs = zip(hits, of_base[figure], strict=True)
                told += f"  {gain_interval(paired_gain([one - other for one, other in pairs]))}"
            print(f"  {figure:20} {told}", flush=True)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
