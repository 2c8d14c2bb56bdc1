"""ReportData: everything that a report shows, as plain Python values, and the statistics computed from it.

Scores are the fraction of images classified correctly, 0 to 1; the page shows them as points, 0 to 100.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import NamedTuple

from react_ray.evals.score import Place, Score
from react_ray.report.class_gallery import ClassEntry
from react_ray.report.intervals import Gain

MEAN = "mean"
LABELS_ALONE = "labels alone"


@dataclass(frozen=True)
class Seed:
    """Holds the scores of a run of the same recipe with another seed."""

    seed: int
    tasks: dict[str, dict[str, float]]  # task -> row -> top-1
    mean: dict[str, float]  # row -> mean over tasks


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


class Cost(NamedTuple):
    """What a row of the table took to make, beyond the base; None where it is not known."""

    seconds: float | None = None  # of training
    bytes: int | None = None  # of what was trained, or of the pictures that are compared


class LabelCurve(NamedTuple):
    """Rows of one method that differ in the labelled images that trained them."""

    title: str
    without: str  # the row that trained on the retrieved pairs alone; "" = there is none
    # what trained, LABELS_ALONE or a mixture -> labelled images of each class at most, ALL_SHOTS = all -> row
    lines: dict[str, dict[int, str]]

    def pairs(self) -> list[tuple[str, str]]:
        """Returns (row, row that it is compared with): the retrieved pairs alone, and as many labels alone."""
        alone = self.lines.get(LABELS_ALONE, {})
        found = [(row, self.without) for rows in self.lines.values() for row in rows.values() if self.without]
        mixed = [rows for line, rows in self.lines.items() if line != LABELS_ALONE]
        return found + [(row, alone[shots]) for rows in mixed for shots, row in rows.items() if shots in alone]


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
    # name -> label of every row of the table, in order; the first is a base. An arm keeps its place, and so its colour,
    # until it has scores.
    labels: dict[str, str]
    tasks: dict[str, dict[str, float]] = field(default_factory=dict)  # task -> row -> top-1
    mean: dict[str, float] = field(default_factory=dict)  # row -> mean of top-1 over tasks
    # "task metric" -> row -> value, of tasks for which another metric than top-1 counts; "mean" = over all tasks, each
    # by its own metric
    task_metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    metric_gains: dict[tuple[str, str], Gain] = field(default_factory=dict)  # (column of these, row) -> over its base
    # row -> the base that it is compared with; a row without an entry is compared with the first of `labels`
    bases: dict[str, str] = field(default_factory=dict)
    controls: tuple[str, ...] = ()  # arms that train on pairs that were not searched for: random ones, string matches
    fixed: tuple[str, ...] = ()  # classifiers of fixed classes, such as heads; the others classify by prompts
    references: tuple[str, ...] = ()  # rows that no model makes: nearest neighbours on small pictures
    labelled: tuple[str, ...] = ()  # references that are given labels
    costs: dict[str, Cost] = field(default_factory=dict)
    dataset: str = "test"  # the labelled set of `tasks`
    gains: dict[tuple[str, str, str], Gain] = field(default_factory=dict)  # (task or MEAN, arm, over) -> difference
    label_curves: list[LabelCurve] = field(default_factory=list)
    other_sets: dict[str, Gain] = field(default_factory=dict)  # another labelled set -> best arm against its base
    off_target: tuple[str, ...] = ()  # those of other_sets that no model was customised for
    steps: list[Step] = field(default_factory=list)  # in order; empty if nobody needs to know
    next_step: str = ""  # sentences: what to do for what is missing
    advice: list[str] = field(default_factory=list)  # what to try for a better result, most important first
    facts: list[tuple[str, str]] = field(default_factory=list)  # (name, value), shown below the title
    num_images: dict[str, int] = field(default_factory=dict)  # task -> number of images behind each score
    other_seeds: list[Seed] = field(default_factory=list)
    classes: list[ClassRow] = field(default_factory=list)
    flipped: dict[str, tuple[int, int]] = field(default_factory=dict)  # task -> images gained, images lost
    flips: list[Flip] = field(default_factory=list)  # examples of these, with their pictures
    confusions: list[Confusion] = field(default_factory=list)
    gallery: list[ClassEntry] = field(default_factory=list)  # a few classes with their retrieved pairs
    gallery_hint: str = ""  # where to see all classes
    # arm -> one dict per logged step: step, loss, lr, logit_scale, gate_attn_abs_mean, gate_dense_abs_mean
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    stages: list[StageRow] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)  # of all protocols; models are named as in `labels`
    score_gains: dict[Place, Gain] = field(default_factory=dict)  # of `scores`, over the base; without zero-shot
    recipe_yaml: str = ""
    notes: list[str] = field(default_factory=list)

    def base_of(self, row: str) -> str:
        """Returns the base that a row is compared with; for a base, the base itself."""
        return self.bases.get(row, row if row in self.bases.values() else next(iter(self.labels)))

    def is_base(self, row: str) -> bool:
        return self.base_of(row) == row

    def scored(self) -> list[str]:
        """Returns the rows that have a score, in order."""
        return [row for row in self.labels if self.spread(MEAN, row)]

    def ranked(self) -> list[str]:
        """Returns the rows that have a score, the best mean first; those that are given labels come last."""
        means = {row: spread.mean for row in self.scored() if (spread := self.spread(MEAN, row))}
        return sorted(means, key=lambda row: (row in self.labelled, -means[row]))

    def customized(self) -> list[str]:
        """Returns the scored arms and heads that are no control."""
        others = {*self.controls, *self.references}
        return [row for row in self.scored() if not self.is_base(row) and row not in others]

    @property
    def best_arm(self) -> str | None:
        """Returns the arm with the best mean, None if no arm has a score.

        A classifier of fixed classes leads only where no arm classifies by prompts, a control only if it is alone.
        """
        tried = self.customized() or [row for row in self.scored() if row in self.controls]
        return self._best([row for row in tried if row not in self.fixed] or tried)

    @property
    def best_fixed(self) -> str | None:
        """Returns the best classifier of fixed classes, if another arm leads."""
        found = self._best([row for row in self.customized() if row in self.fixed])
        return None if found == self.best_arm else found

    @property
    def leader(self) -> str | None:
        """Returns the best of all arms and heads, whatever they classify by."""
        return self._best(self.customized())

    def _best(self, rows: list[str]) -> str | None:
        means = {row: spread.mean for row in rows if (spread := self.spread(MEAN, row))}
        return max(means, key=lambda row: means[row], default=None)

    def index(self, arm: str) -> int:
        """Returns the number of an arm's mark and colour, which are the same wherever it is shown."""
        return list(self.labels).index(arm)

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
