"""ReportData: everything that a report shows, as plain Python values, and the statistics computed from it.

Scores are the fraction of images classified correctly, 0 to 1; the page shows them as points, 0 to 100.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import NamedTuple

from react_ray.report.intervals import Gain

MEAN = "mean"


@dataclass(frozen=True)
class Seed:
    """Holds the scores of a run of the same recipe with another seed."""

    seed: int
    tasks: dict[str, dict[str, float]]  # task -> arm -> top-1
    mean: dict[str, float]  # arm -> mean over tasks


class ClassRow(NamedTuple):
    """One class: how many of its images the base and the best arm classify correctly, and what was retrieved for it."""

    task: str
    class_name: str
    num_images: int = 0  # labelled images; 0 without scores
    base_correct: int = 0
    arm_correct: int = 0
    pairs: int | None = None  # None where no selection by class is known
    flags: tuple[str, ...] = ()  # how the retrieved pairs fail to match the class; empty = they match
    advice: tuple[str, ...] = ()  # whole sentences, one or more for a flag


class Flip(NamedTuple):
    """A labelled image that exactly one of base and best arm classifies correctly."""

    task: str
    label: str
    base_said: str
    arm_said: str
    image: bytes

    @property
    def gained(self) -> bool:
        return self.arm_said == self.label


class Confusion(NamedTuple):
    """How often images of a class are taken for another class; label "" stands for images of any other class."""

    task: str
    label: str
    predicted: str
    arm_count: int
    base_count: int


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


class Step(NamedTuple):
    """One verb of a run, and how far it is."""

    verb: str
    state: str  # "done", "begun" or "open"
    text: str = ""  # what is there, such as "32,039 pairs"


@dataclass
class ReportData:
    name: str
    seed: int
    # name -> label, in order; the first is a base. An arm keeps its place, and so its colour, until it has scores.
    arms: dict[str, str]
    tasks: dict[str, dict[str, float]] = field(default_factory=dict)  # task -> arm -> top-1
    mean: dict[str, float] = field(default_factory=dict)  # arm -> mean of top-1 over tasks
    # arm -> the base that it is compared with; an arm without an entry is compared with the first of `arms`
    bases: dict[str, str] = field(default_factory=dict)
    controls: tuple[str, ...] = ()  # arms that train on random pairs
    dataset: str = "test"  # the labelled set of `tasks`
    gains: dict[tuple[str, str, str], Gain] = field(default_factory=dict)  # (task or MEAN, arm, over) -> difference
    other_sets: dict[str, Gain] = field(default_factory=dict)  # another labelled set -> best arm against its base
    steps: list[Step] = field(default_factory=list)  # in order; empty if nobody needs to know
    next_step: str = ""  # sentences: what to do for what is missing
    advice: list[str] = field(default_factory=list)  # what to try for a better result, most important first
    facts: list[tuple[str, str]] = field(default_factory=list)  # (name, value), shown below the title
    num_images: dict[str, int] = field(default_factory=dict)  # task -> number of images behind each score
    other_seeds: list[Seed] = field(default_factory=list)
    reference_lines: dict[str, dict[str, float]] = field(default_factory=dict)  # label -> task -> top-1
    classes: list[ClassRow] = field(default_factory=list)
    flipped: dict[str, tuple[int, int]] = field(default_factory=dict)  # task -> images gained, images lost
    flips: list[Flip] = field(default_factory=list)  # examples of these, with their pictures
    confusions: list[Confusion] = field(default_factory=list)
    gallery: list[tuple[str, list[Picture]]] = field(default_factory=list)  # (class, its retrieved pairs, best first)
    gallery_hint: str = ""  # where to see all classes
    # arm -> one dict per logged step: step, loss, lr, logit_scale, gate_attn_abs_mean, gate_dense_abs_mean
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    stages: list[StageRow] = field(default_factory=list)
    recipe_yaml: str = ""
    notes: list[str] = field(default_factory=list)

    def base_of(self, arm: str) -> str:
        """Returns the base that an arm is compared with; for a base, the base itself."""
        return self.bases.get(arm, arm if arm in self.bases.values() else next(iter(self.arms)))

    def is_base(self, arm: str) -> bool:
        return self.base_of(arm) == arm

    def scored_arms(self) -> list[str]:
        """Returns the arms, bases included, that have a score."""
        return [arm for arm in self.arms if self.spread(MEAN, arm)]

    @property
    def best_arm(self) -> str | None:
        """Returns the arm with the best mean; a control only if there is nothing else, None if no arm has a score."""
        means = {arm: s.mean for arm in self.arms if not self.is_base(arm) and (s := self.spread(MEAN, arm))}
        tried = {arm: mean for arm, mean in means.items() if arm not in self.controls} or means
        return max(tried, key=lambda arm: tried[arm], default=None)

    def index(self, arm: str) -> int:
        """Returns the number of an arm's mark and colour, which are the same wherever it is shown."""
        return list(self.arms).index(arm)

    def gain(self, task: str, arm: str, over: str = "") -> Gain | None:
        """Returns the gain of an arm over another one, or over its base; None for a base, and where it is not known."""
        return self.gains.get((task, arm, over or self.base_of(arm)))

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

    def reference(self, label: str, task: str) -> float | None:
        """Returns the score of a reference line; its mean exists only if it has every task."""
        line = self.reference_lines[label]
        if task != MEAN or MEAN in line:
            return line.get(task)
        return statistics.fmean(line[t] for t in self.tasks) if self.tasks and set(self.tasks) <= set(line) else None
