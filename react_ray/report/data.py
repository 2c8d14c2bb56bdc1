"""ReportData: everything that a report shows, as plain Python values, and the statistics computed from it.

Scores are the fraction of images classified correctly, 0 to 1; the page shows them as points, 0 to 100.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import NamedTuple

MEAN = "mean"


class Seed(NamedTuple):
    """Holds the scores of a run of the same recipe with another seed."""

    seed: int
    tasks: dict[str, dict[str, float]]  # task -> arm -> top-1
    mean: dict[str, float]  # arm -> mean over tasks


class ClassChange(NamedTuple):
    """Counts how many images of a class the base and the compared arm classify correctly."""

    task: str
    class_name: str
    base_correct: int
    arm_correct: int
    num_images: int


class Picture(NamedTuple):
    data: bytes  # WebP, JPEG, PNG, GIF or AVIF
    caption: str
    score: float
    key: str  # the side of the pair that was searched: "image" or "text"
    credit: str = ""  # author and licence


class StageRow(NamedTuple):
    stage: str
    parts: int
    rows: int
    ok: int
    bytes: int
    seconds: float


class Spread(NamedTuple):
    mean: float
    std: float  # sample standard deviation; 0 with one seed
    num_seeds: int


@dataclass
class ReportData:
    name: str
    seed: int
    arms: dict[str, str]  # name -> label, in order; the first is a base
    tasks: dict[str, dict[str, float]]  # task -> arm -> top-1
    mean: dict[str, float]  # arm -> mean of top-1 over tasks
    # arm -> the base that it is compared with; an arm without an entry is compared with the first of `arms`
    bases: dict[str, str] = field(default_factory=dict)
    compared: str = ""  # the arm of the headline and of `per_class`; empty = the last one
    facts: list[tuple[str, str]] = field(default_factory=list)  # (name, value), shown below the title
    num_images: dict[str, int] = field(default_factory=dict)  # task -> number of images behind each score
    other_seeds: list[Seed] = field(default_factory=list)
    reference_lines: dict[str, dict[str, float]] = field(default_factory=dict)  # label -> task -> top-1
    per_class: list[ClassChange] = field(default_factory=list)
    gallery: list[tuple[str, list[Picture]]] = field(default_factory=list)  # (class, its retrieved pairs, best first)
    # arm -> one dict per logged step: step, loss, lr, logit_scale, gate_attn_abs_mean, gate_dense_abs_mean
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    stages: list[StageRow] = field(default_factory=list)
    recipe_yaml: str = ""
    notes: list[str] = field(default_factory=list)

    def base_of(self, arm: str) -> str:
        """Returns the base that an arm is compared with; for a base, the base itself."""
        return self.bases.get(arm, arm if arm in self.bases.values() else next(iter(self.arms)))

    def gain_over_base(self, task: str, arm: str) -> Spread | None:
        """Returns the gain of an arm over its base, None for a base."""
        base = self.base_of(arm)
        return None if arm == base else self.gain(task, arm, base)

    @property
    def compared_arm(self) -> str:
        return self.compared or list(self.arms)[-1]

    @property
    def num_seeds(self) -> int:
        return 1 + len(self.other_seeds)

    def spread(self, task: str, arm: str) -> Spread | None:
        """Returns the spread of a score over the seeds that have it, None if no seed has it; `task` may be MEAN."""
        scores = [self.mean if task == MEAN else self.tasks.get(task, {})]
        scores += [seed.mean if task == MEAN else seed.tasks.get(task, {}) for seed in self.other_seeds]
        values = [by_arm[arm] for by_arm in scores if arm in by_arm]
        if not values:
            return None
        return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))

    def gain(self, task: str, arm: str, over: str) -> Spread | None:
        """Returns the difference of two arms, paired by seed, so that effects of the seed on both cancel."""
        runs = [(self.tasks, self.mean), *((seed.tasks, seed.mean) for seed in self.other_seeds)]
        scores = [mean if task == MEAN else tasks.get(task, {}) for tasks, mean in runs]
        values = [by_arm[arm] - by_arm[over] for by_arm in scores if arm in by_arm and over in by_arm]
        if not values:
            return None
        return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))

    def reference(self, label: str, task: str) -> float | None:
        """Returns the score of a reference line; its mean exists only if it has every task."""
        line = self.reference_lines[label]
        if task != MEAN or MEAN in line:
            return line.get(task)
        return statistics.fmean(line[t] for t in self.tasks) if self.tasks and set(self.tasks) <= set(line) else None
