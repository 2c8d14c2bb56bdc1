"""Scores a model zero-shot while it trains, in an actor beside the training, which hands over its weights and goes on.

The weights come as the bytes of a gated.safetensors; top-1 on an evaluation set, and the best weights so far, are
written to storage. With keep=best a checkpoint counts only once the scores of its steps are written, so that a resumed
training forgets none. With keep=last the training waits for no score before its end, and leaves out those that come too
late.
"""

from __future__ import annotations

import json
import tempfile
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import torch
from torch import Tensor

from react_ray.clip.backbone import Backbone
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask
from react_ray.clip.weights import read_weights
from react_ray.errors import PartFailed
from react_ray.evals.classify import classify_rows, prompt_scorers
from react_ray.evals.labelled import Slice, read_slice
from react_ray.evals.zeroshot import MEAN, summarise
from react_ray.gated.checkpoint import load_gated
from react_ray.gated.load import load_backbone
from react_ray.metadata import read_json
from react_ray.runtime.device import worker_device
from react_ray.storage import Storage, join, local_file, open_storage
from react_ray.training.scorer import Scorer

WAITING = 2  # sets of weights that may wait for their score


@dataclass(frozen=True)
class Watched:
    """The evaluation set to score on, and the place where scores are written."""

    backbone: BackboneConfig
    seed: int
    text_trains: bool
    tasks: tuple[TargetTask, ...]
    dataset: str
    slices: tuple[Slice, ...]
    place: str


class Watcher:
    """The actor. It scores one set of weights after the other."""

    def __init__(self, batch_size: int, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self.batch_size, self.num_threads = batch_size, num_threads
        self.device = worker_device()
        self._of: Watched | None = None
        self._scorers: dict[str, Scorer] | None = None

    def score(self, watched: Watched, step: int, weights: bytes) -> dict[str, float]:
        """Returns {task: top-1}, with the mean over tasks.

        Writes `step_N.json`, and `step_N.safetensors` if no earlier step was as good.
        """
        storage, tasks = open_storage(watched.place), list(watched.tasks)
        embedder = Embedder(self._load(watched, weights), self.batch_size, self.device)
        if self._scorers is None or watched.text_trains:
            self._scorers = prompt_scorers(embedder, tasks)
        found = [
            classify_rows(read_slice(part, tasks), embedder, self._scorers, tasks, self.num_threads)
            for part in watched.slices
        ]
        rows = summarise(pa.concat_tables(found))
        scores = {task: value for _, task, metric, value, _ in rows if metric == "top1"}
        if all(scores[MEAN] > earlier[MEAN] for at, earlier in scores_at(storage).items() if at < step):
            storage.write(f"{_name(step)}.safetensors", weights)
        storage.write(f"{_name(step)}.json", json.dumps(scores).encode())
        return scores

    def _load(self, watched: Watched, weights: bytes) -> Backbone:
        if self._of != watched:
            self._base, self._of = load_backbone(watched.backbone, device=self.device, seed=watched.seed), watched
            self._scorers = None
        ours = replace(self._base, model=deepcopy(self._base.model))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "weights.safetensors")
            path.write_bytes(weights)
            load_gated(ours.model, str(path), check_backbone=False)  # this training loaded the same backbone
        return ours


class Scores:
    """The training's side of the scores, on rank 0."""

    def __init__(self, watcher: Any, watched: Watched, start: int) -> None:
        """start: the step that the training goes on from; scores of later steps are deleted and will be made again."""
        self.watcher, self.watched = watcher, watched
        self.storage = open_storage(watched.place)
        self.problem = ""
        self.left_out: list[int] = []
        self._pending: list[tuple[int, Any]] = []
        found = scores_at(self.storage)
        self._taken = {step: scores for step, scores in sorted(found.items()) if step <= start}
        for step in found.keys() - self._taken.keys():
            self.storage.delete(f"{_name(step)}.json")

    def wants(self, step: int, wait: bool) -> bool:
        """Whether to ask for a score of this step. If the actor is behind, waits for it, or leaves the step out."""
        while len(self._pending) >= WAITING and (wait or self._first_is_there()):
            self._take(self._pending.pop(0))
        if len(self._pending) < WAITING:
            return True
        self.left_out.append(step)
        return False

    def ask(self, step: int, weights: bytes) -> None:
        """Asks for the score of a step that it `wants`; returns at once."""
        self._pending.append((step, self.watcher.score.remote(self.watched, step, weights)))

    def answers(self, wait: bool = False) -> dict[int, dict[str, float]]:
        """{step: {task: top-1}} of the scores that have come since the last call; the first call adds those up to
        `start`.

        wait: for all scores that were asked for.
        """
        while self._pending and (wait or self._first_is_there()):
            self._take(self._pending.pop(0))
        taken, self._taken = self._taken, {}
        return taken

    def pending(self) -> list[Any]:
        return [answer for _, answer in self._pending]

    def warnings(self) -> list[str]:
        """What the user should know about scores that did not come."""
        found = []
        if self.left_out:
            found.append(
                f"{len(self.left_out)} scores on {self.watched.dataset} were left out (of step {self.left_out[0]} "
                "first): scoring is slower than training; raise customize.watch_every_steps or set customize.watch_gpus"
            )
        if self.problem:
            found.append(
                f"a score on {self.watched.dataset} did not come ({self.problem}), the model was trained without it; "
                "mend that before the next training"
            )
        return found

    def best(self) -> tuple[int, dict[str, Tensor]]:
        """Step and weights of the highest mean score; the earliest step among equals."""
        kept = {_step(path) for path in self.storage.list() if path.endswith(".safetensors")}
        means = {step: scores[MEAN] for step, scores in scores_at(self.storage).items() if step in kept}
        if not means:
            raise PartFailed(
                f"customize.keep=best: no score came from {self.watched.dataset} ({self.problem}); mend that, or set "
                "keep=last, and run the same command again"
            )
        step = min(means, key=lambda step: (-means[step], step))
        return step, read_weights(local_file(join(self.watched.place, f"{_name(step)}.safetensors")))

    def card(self, step: int) -> list[dict[str, Any]]:
        """The rows of the model card's `scores` for one step."""
        named = {"dataset": self.watched.dataset, "metric": "top1", "step": step}
        return [named | {"task": task, "value": value} for task, value in scores_at(self.storage).get(step, {}).items()]

    def _take(self, asked: tuple[int, Any]) -> None:
        step, answer = asked
        try:
            self._taken[step] = ray.get(answer)
        except ray.exceptions.RayError as error:  # the training goes on without the score
            cause = getattr(error, "cause", error)
            self.problem = f"step {step}: {type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"

    def _first_is_there(self) -> bool:
        return bool(ray.wait([self._pending[0][1]], timeout=0)[0])


def wait_for(answers: list[Any]) -> None:
    """Waits until each answer is there, or has failed."""
    if answers:
        ray.wait(answers, num_returns=len(answers))


def scores_at(storage: Storage) -> dict[int, dict[str, float]]:
    """{step: {task: top-1}} of all scores that are written."""
    remedy = "delete it; the training goes on without that score"
    paths = [path for path in storage.list() if path.endswith(".json")]
    return {_step(path): read_json(storage, path, dict[str, float], remedy) for path in paths}


def _name(step: int) -> str:
    return f"step_{step:08d}"


def _step(path: str) -> int:
    return int(path.removeprefix("step_").partition(".")[0])
