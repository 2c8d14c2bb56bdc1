"""What rank 0 tells about a training: the metrics stream, TensorBoard, the trackers and the progress line."""

from __future__ import annotations

from typing import Any

from react_ray.evals.zeroshot import MEAN
from react_ray.progress import Metrics
from react_ray.stages.training.job import Job
from react_ray.storage import open_storage
from react_ray.training.metrics import TensorBoard
from react_ray.training.trackers import open_trackers


class Log:
    def __init__(self, job: Job, start: int) -> None:
        """start: the step that the training goes on from; metrics of later steps are dropped."""
        storage = open_storage(job.run)
        self._job, self._start = job, start
        self._metrics = Metrics(storage, f"train-{job.arm or 'model'}")
        self._metrics.drop_after(start)
        self._scored = Metrics(storage, f"scores-{job.arm or 'model'}")
        self._scored.drop_after(-1)  # all of them come again, also those from before `start`
        facts = {
            "method": job.config.method,
            "backbone": job.backbone.name,
            "recipe": job.card["recipe"],
            "out": job.run,
        }
        self._boards: list[Any] = [TensorBoard(storage, job.arm or "model", start)]
        self._boards += open_trackers(job.config.trackers, job.card["recipe"], job.arm or "model", job.digest, facts)
        self._score, self._wait_share = "", 0.0

    def step(self, step: int, total: int, values: dict[str, float]) -> None:
        self._wait_share += (values["wait_share"] - self._wait_share) / 20  # a moving average
        self._metrics.log(step, **values)
        for board in self._boards:
            board.log(step, values)
        resumed = f"  went on from step {self._start}" if self._start else ""
        note = f"loss {values['loss']:.3f}  waits {100 * self._wait_share:.0f} %{self._score}{resumed}"
        self._job.progress.write.remote(self._job.arm, step, total, note)

    def scores(self, found: dict[int, dict[str, float]]) -> None:
        """found: {step: {task: top-1}}"""
        for step, values in found.items():
            named = {f"top1/{task}": value for task, value in values.items()}
            self._scored.log(step, **named)
            for board in self._boards:
                board.log(step, named)
            self._score = f"  top-1 {100 * values[MEAN]:.1f} % at step {step}"

    def flush(self) -> None:
        self._metrics.flush()
        if self._scored.rows():
            self._scored.flush()
        self._boards[0].flush()

    def close(self) -> None:
        self.flush()
        for board in self._boards:
            board.close()
