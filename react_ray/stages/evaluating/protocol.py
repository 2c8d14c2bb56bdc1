"""Protocol: an evaluation of another kind than classification, of one set; and what runs it over the models of a run.

Each model makes `outputs_<protocol>/<row>/<set>` of the set's images, part by part, and from all parts follow its
figures, `scores_<protocol>/<row>/<set>`. One pool of actors serves all, or this process alone if the images are few.
Next: image_text_retrieval.py, one of the protocols.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import torch

from react_ray.artifact import Artifact
from react_ray.clip.backbone import Backbone
from react_ray.draft import Draft, create
from react_ray.evals.score import Score, score_table
from react_ray.gated.load import load_backbone
from react_ray.kinds import OUTPUTS, SCORES, NoFacts, ScoresFacts
from react_ray.manifest import Receipt
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime.device import worker_device
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, Work, map_parts
from react_ray.runtime.placement import actor_pool, is_soonest_here, num_threads
from react_ray.stages.evaluating.scored_model import ScoredModel, load_scored, scored_models

MOST_SAID = 12


class Protocol:
    """One protocol on one set. It travels to every process, so it holds only what is small."""

    name: ClassVar[str]  # as in Score.protocol
    dataset: str

    @property
    def num_images(self) -> int:
        raise NotImplementedError

    @property
    def num_parts(self) -> int:
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """All on which outputs and scores depend, besides the model."""
        raise NotImplementedError

    def read(self, part: int) -> pa.Table:
        raise NotImplementedError

    def prepare(self, backbone: Backbone, device: torch.device, num_threads: int) -> Any:
        """Makes what every part needs of a model, once in each process: an embedder, vectors of classes."""
        raise NotImplementedError

    def outputs(self, table: pa.Table, prepared: Any) -> pa.Table:
        """What a model makes of one part, as `read` returned it. prepared: of the model, by `prepare`."""
        raise NotImplementedError

    def figures(self, parts: Iterator[pa.Table]) -> list[tuple[str, str, float, int]]:
        """Returns (task, metric, value, number of what was averaged). parts: all outputs of one model, in order."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Job:
    row: str
    model: ScoredModel
    protocol: Protocol
    draft: Draft[NoFacts]
    part: int = 0


def run_protocols(recipe: Recipe, protocols: Sequence[Protocol]) -> list[Artifact[ScoresFacts]]:
    """Returns the sealed `scores` of each model that has a tower of its own, on each of the sets.

    What is finished stays; ArtifactMismatch if a set, or what else it depends on, was replaced in its place.
    """
    if not protocols:
        return []
    rows = _rows(recipe)
    scores: dict[tuple[str, int], Draft[ScoresFacts]] = {}
    outputs: list[_Job] = []
    for row, model in rows.items():
        described = load_backbone(model.backbone, seed=recipe.seed).describe()
        for number, protocol in enumerate(protocols):
            config = protocol.config() | {"backbone": described, "wise_ft": model.wise_ft}
            place = (row, protocol.name, protocol.dataset)
            made = create(Layout(recipe).outputs(*place), OUTPUTS, config, model.parents, protocol.num_parts)
            outputs.append(_Job(row, model, protocol, made))
            scores[row, number] = create(Layout(recipe).protocol_scores(*place), SCORES, config, model.parents, 1)
    _make_outputs(recipe, outputs)
    return [
        draft.open() if draft.sealed else _score(recipe, draft, job)
        for draft, job in zip(scores.values(), outputs, strict=True)
    ]


def _rows(recipe: Recipe) -> dict[str, ScoredModel]:
    """The rows of the table that have image and text vectors in one space, unlike classifiers of the classes."""
    found = scored_models(recipe)
    if heads := [name for name, model in found.items() if model.head]:
        say(f"evaluate   only classification scores {', '.join(heads)}, which can tell nothing but the classes apart")
    return {name: model for name, model in found.items() if not model.head}


def _make_outputs(recipe: Recipe, outputs: list[_Job]) -> None:
    jobs = [
        _Job(one.row, one.model, one.protocol, one.draft, part)
        for one in outputs
        for part in ([] if one.draft.sealed else one.draft.pending())
    ]
    here = is_soonest_here(recipe.cluster, sum(job.protocol.num_images // job.protocol.num_parts for job in jobs))
    stage = MapStage(
        "evaluate",
        _Read(jobs),
        _RunModel(jobs, recipe, num_threads(recipe.cluster, here)),
        noun="images",
        options=actor_pool(recipe.cluster, "embed"),
        retries=recipe.cluster.part_retries,
        here=here,
    )
    map_parts(stage, list(range(len(jobs))), len(jobs))


class _Read:
    def __init__(self, jobs: list[_Job]) -> None:
        self.jobs = jobs

    def __call__(self, number: int) -> pa.Table:
        return self.jobs[number].protocol.read(self.jobs[number].part)


class _RunModel(Work):
    """Makes the outputs of one part at a time, and keeps the model of the last one."""

    def __init__(self, jobs: list[_Job], recipe: Recipe, num_threads: int) -> None:
        self.jobs, self.seed, self.num_threads = jobs, recipe.seed, num_threads

    def setup(self) -> None:
        torch.set_num_threads(self.num_threads)
        self.device = torch.device(worker_device())
        self.loaded: ScoredModel | None = None
        self.prepared_for: Protocol | None = None

    def __call__(self, number: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        job = self.jobs[number]
        if self.loaded is not job.model:
            self.backbone = load_scored(job.model, self.seed, self.device)
            self.loaded, self.prepared_for = job.model, None
        if self.prepared_for is not job.protocol:
            self.prepared = job.protocol.prepare(self.backbone, self.device, self.num_threads)
            self.prepared_for = job.protocol
        made = job.protocol.outputs(table, self.prepared)
        return job.draft.commit(job.part, made, time.monotonic() - began)


def _score(recipe: Recipe, draft: Draft[ScoresFacts], job: _Job) -> Artifact[ScoresFacts]:
    began = time.monotonic()
    outputs, protocol = job.draft.seal(), job.protocol
    found = [
        Score(protocol.name, job.row, protocol.dataset, task, metric, value, num, seed=recipe.seed)
        for task, metric, value, num in protocol.figures(outputs.tables())
    ]
    draft.commit(0, score_table(found), time.monotonic() - began)
    said = ", ".join(f"{s.task} {s.metric}".strip() + f" {100 * s.value:.1f} %" for s in found[:MOST_SAID])
    return draft.seal(ScoresFacts([f"{protocol.name} of {job.row or 'the model'} on {protocol.dataset}: {said}"]))
