"""Reads what each model said about each labelled image, and compares models image by image.

Takes the sealed scores of a run and of its other seeds (`evaluate.other_runs`); models without scores are left out.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray.artifact import open_artifact
from react_ray.errors import ArtifactMismatch
from react_ray.evals.zeroshot import MEAN
from react_ray.kinds import PREDICTIONS
from react_ray.manifest import MANIFEST
from react_ray.recipe import BASE, Recipe
from react_ray.report.data import Confusion
from react_ray.report.intervals import Gain, holm, paired_gain
from react_ray.runtime.layout import scored, shown_name
from react_ray.storage import open_storage

CONFUSIONS = 50  # of each kind


class Said(NamedTuple):
    """What one model says about the images of one labelled set, in the order of (task, row)."""

    uri: str
    task: np.ndarray  # [N] names
    row: np.ndarray  # int [N], of the image in its set
    label: np.ndarray  # [N] names of classes
    predicted: np.ndarray  # [N] names of classes, None where the image could not be decoded
    correct: np.ndarray  # bool [N]


class Flipped(NamedTuple):
    """One image that exactly one of two models classifies correctly."""

    task: str
    row: int
    label: str
    base_said: str
    arm_said: str


class Outcomes:
    """What the models of a run said. A model is named as in the report: a base, or an arm ("customized" without arms).

    By seed, the run's own first, then by model and labelled set.
    """

    def __init__(self, recipe: Recipe) -> None:
        runs = [recipe, *(recipe.model_copy(update={"out": uri}) for uri in recipe.evaluate.other_runs)]
        self.seeds = [_said(run) for run in runs]
        for run, found in zip(runs[1:], self.seeds[1:], strict=True):
            if not found:
                open_artifact(scored(run)[BASE], PREDICTIONS)  # raises, and says what to do

    def has(self, dataset: str, *names: str) -> bool:
        return all(dataset in self.seeds[0].get(name, {}) for name in names)

    def datasets(self) -> list[str]:
        """Returns the labelled sets that a model of this run is scored on."""
        return list(dict.fromkeys(dataset for of_model in self.seeds[0].values() for dataset in of_model))

    def gains(self, dataset: str, arm: str, over: str) -> dict[str, Gain]:
        """Returns the gain of a row over another one by task, and MEAN over tasks; empty if one has no scores.

        The p-values of tasks are corrected for their number. Seeds without scores of both are left out.
        """
        if not self.has(dataset, arm, over):
            return {}
        pairs = [
            (s[arm][dataset], s[over][dataset]) for s in self.seeds if all(dataset in s.get(n, {}) for n in (arm, over))
        ]
        first = pairs[0][0]
        for said in (said for pair in pairs for said in pair):
            _require_same_images(first, said)
        difference_SN = np.stack([one.correct.astype(np.int8) - other.correct for one, other in pairs])
        by_task = {task: difference_SN[:, first.task == task] for task in dict.fromkeys(first.task.tolist())}
        of_tasks = holm({task: paired_gain([difference]) for task, difference in by_task.items()})
        return of_tasks | {MEAN: paired_gain(list(by_task.values()))}

    def flipped(self, dataset: str, arm: str, base: str) -> list[Flipped]:
        """Returns the images of this run that flipped, by task and row."""
        one, other = self._both(dataset, arm, base)
        return [
            Flipped(one.task[i], int(one.row[i]), one.label[i], other.predicted[i], one.predicted[i])
            for i in np.flatnonzero(one.correct != other.correct)
            if one.predicted[i] is not None and other.predicted[i] is not None
        ]

    def class_counts(self, dataset: str, arm: str, base: str) -> dict[tuple[str, str], list[int]]:
        """Returns (task, class) -> [images, correct by the base, correct by the arm]."""
        one, other = self._both(dataset, arm, base)
        counts: dict[tuple[str, str], list[int]] = {}
        for task, label, after, before in zip(one.task, one.label, one.correct, other.correct, strict=True):
            row = counts.setdefault((task, label), [0, 0, 0])
            row[0] += 1
            row[1] += bool(before)
            row[2] += bool(after)
        return counts

    def confusions(self, dataset: str, arm: str, base: str) -> list[Confusion]:
        """Returns the arm's most frequent mistakes: pairs of classes, and with label "" the classes wrongly named."""
        found = []
        for by_pair in (True, False):
            after, before = (_mistakes(said, by_pair) for said in self._both(dataset, arm, base))
            most = sorted(after, key=lambda key: (-after[key], key))[:CONFUSIONS]
            found += [Confusion(*key, after[key], before[key]) for key in most]
        return found

    def _both(self, dataset: str, arm: str, base: str) -> tuple[Said, Said]:
        one, other = self.seeds[0][arm][dataset], self.seeds[0][base][dataset]
        _require_same_images(one, other)
        return one, other


def _said(recipe: Recipe) -> dict[str, dict[str, Said]]:
    """Returns model -> labelled set -> what the model says, for the models of one run that are scored."""
    found: dict[str, dict[str, Said]] = {}
    for name, uri in scored(recipe).items():
        if open_storage(uri).exists(MANIFEST):
            columns = ["dataset", "task", "row", "label", "predicted", "rank"]
            table = pa.concat_tables(open_artifact(uri, PREDICTIONS).tables(columns))
            table = table.sort_by([("task", "ascending"), ("row", "ascending")])
            found[shown_name(name)] = {
                dataset: _of_set(table.filter(pc.equal(table["dataset"], dataset)), uri)
                for dataset in pc.unique(table["dataset"]).to_pylist()
            }
    return found


def _of_set(table: pa.Table, uri: str) -> Said:
    task, label, predicted = (np.array(table[c].to_pylist(), object) for c in ("task", "label", "predicted"))
    correct = pc.equal(table["rank"], 0).fill_null(False).to_numpy()
    return Said(uri, task, table["row"].to_numpy(), label, predicted, correct)


def _require_same_images(one: Said, other: Said) -> None:
    if not all(np.array_equal(a, b) for a, b in zip(one[1:4], other[1:4], strict=True)):
        raise ArtifactMismatch(
            f"{one.uri} and {other.uri} are scores of different images; delete one of them and run `react-ray evaluate "
            "RECIPE` again"
        )


def _mistakes(said: Said, by_pair: bool) -> Counter[tuple[str, str, str]]:
    """Counts (task, label or "", predicted) of the images that are classified wrongly."""
    return Counter(
        (said.task[i], said.label[i] if by_pair else "", said.predicted[i])
        for i in np.flatnonzero(~said.correct)
        if said.predicted[i] is not None
    )
