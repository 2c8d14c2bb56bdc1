"""Trains on the retrieved pairs of a run by schedules that follow from the pairs, and by given ones, without Ray.

For each schedule: its steps, how far its gates could open (training/movement.py) and how far they did, the loss, and
zero-shot top-1 on the validation set, beside that of the base. The run needs `retrieved/` and `images/`, such as
`react-ray run react_ray/recipes/sample.yaml --until retrieve` leaves behind. The last line is one JSON object.

    python tests/benchmark/bench_schedule.py react_ray/recipes/sample.yaml '{}' '{"epochs": 8}' --tasks weather
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests is no installed package

from react_ray.artifact import open_artifact
from react_ray.clip.backbone import Backbone
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask, load_tasks
from react_ray.clip.text import drop_text_tower
from react_ray.evals.classify import classify_rows, prompt_scorers
from react_ray.evals.labelled import read_slice, slices_of
from react_ray.evals.zeroshot import summarise
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.load import load_backbone
from react_ray.gated.method import prepare, resolved
from react_ray.kinds import IMAGES, RETRIEVED
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages.training.rows import RetrievedRows
from react_ray.training.batches import Batches
from react_ray.training.metrics import gate_values
from react_ray.training.movement import reach
from react_ray.training.optim import MAX_LOGIT_SCALE, make_optimizer, set_learning_rate
from react_ray.training.schedule import described, from_data, learning_rate, num_steps
from react_ray.training.step import TrainingStep


class SomeRows:
    """The rows of some classes, in memory, as one part."""

    def __init__(self, rows: RetrievedRows, class_ids: list[int]) -> None:
        table = pa.concat_tables([rows.read(block) for block in range(len(rows.block_sizes))])
        self.table = table.filter(pc.is_in(table["class_id"], pa.array(class_ids, pa.int32())))
        self.block_sizes, self.block_bytes = [self.table.num_rows], [self.table.nbytes]

    def read(self, part: int) -> pa.Table:
        return self.table


class Bench:
    def __init__(self, recipe: Recipe, wanted: list[str], dataset: str) -> None:
        tasks = load_tasks(recipe.tasks)
        self.recipe, self.dataset = recipe, dataset
        self.tasks = [task for task in tasks if task.name in wanted or not wanted]
        retrieved, images = (open_artifact(f"{recipe.out}/{kind.name}", kind) for kind in (RETRIEVED, IMAGES))
        self.rows = SomeRows(RetrievedRows(retrieved, images), _class_ids(tasks, self.tasks))
        base = self.load()
        embedder = Embedder(base, 256, "cpu")
        self.scorers = prompt_scorers(embedder, self.tasks)
        self.base = self.score(base)

    def load(self) -> Backbone:
        return load_backbone(self.recipe.customized, seed=self.recipe.seed)

    def score(self, backbone: Backbone) -> float:
        """Top-1, the mean over tasks, in points."""
        embedder, tables = Embedder(backbone, 256, "cpu"), []
        for part in slices_of(self.dataset, self.recipe.evaluate.datasets[self.dataset], load_tasks(self.recipe.tasks)):
            table = read_slice(part, load_tasks(self.recipe.tasks))
            table = table.filter(pc.is_in(table["task"], pa.array([task.name for task in self.tasks])))
            tables.append(classify_rows(table, embedder, self.scorers, self.tasks, 1))
        rows = summarise(pa.concat_tables(tables))
        return 100 * next(value for _, task, metric, value, _ in rows if (task, metric) == ("mean", "top1"))

    def train(self, given: dict[str, Any]) -> dict[str, Any]:
        backbone, num_pairs = self.load(), self.rows.block_sizes[0]
        config = from_data(CustomizeConfig.model_validate({"last_k_layers": 3, **given}), num_pairs)
        config = resolved(config, self.recipe.customized.name, backbone.model)
        prepare(backbone.model.train(), config, self.recipe.seed)
        drop_text_tower(backbone.model)
        batches = Batches(self.rows, batch_size=config.batch_size, image_size=backbone.image_size, seed=0)
        step, total = TrainingStep(backbone, config, self.recipe.seed), num_steps(config, num_pairs)
        optimizer, began = make_optimizer(backbone.model, config), time.process_time()
        for batch in batches.iterate(0, total):
            set_learning_rate(optimizer, learning_rate(batch.step, total, config))
            optimizer.zero_grad()
            loss = step(batch)
            loss.backward()
            optimizer.step()
            backbone.model.get_parameter("logit_scale").data.clamp_(0, MAX_LOGIT_SCALE)
        found = {
            "schedule": described(config, num_pairs),
            "could_open": reach(config, num_pairs),
            "opened": max(
                (v for name, v in gate_values(backbone.model).items() if name.startswith("gate/")), default=0
            ),
            "loss": float(loss.detach()),
            "cpu_s": time.process_time() - began,
            "validation": self.score(backbone),
            "base": self.base,
        }
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


def _class_ids(tasks: list[TargetTask], wanted: list[TargetTask]) -> list[int]:
    ids, first = [], 0
    for task in tasks:
        ids += [first + i for i in range(len(task.class_names)) if task in wanted]
        first += len(task.class_names)
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("schedules", nargs="*", default=["{}"], help="fields of customize, in JSON")
    parser.add_argument("--out", default="", help="the run, if it is not the recipe's")
    parser.add_argument("--tasks", nargs="*", default=[])
    parser.add_argument("--dataset", default="validation")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(options.recipe, [f"out={options.out}"] if options.out else [])
    bench, found = Bench(recipe, options.tasks, options.dataset), []
    for given in options.schedules:
        found.append({"given": given} | bench.train(json.loads(given)))
        print(found[-1], flush=True)
    print(json.dumps({"schedules": found}))


if __name__ == "__main__":
    main()
