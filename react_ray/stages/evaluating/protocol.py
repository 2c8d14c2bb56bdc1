"""Protocol: an evaluation of another kind than classification, of one set; and what runs it over the models of a run.

Each model makes `outputs_<protocol>/<row>/<set>` of the set's images, part by part, and from all parts follow its
figures, `scores_<protocol>/<row>/<set>`. One pool of actors serves all, or this process alone if the images are few.
Next: image_text_retrieval.py, one of the protocols.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
import torch

from react_ray.artifact import Artifact, open_artifact, plan_of
from react_ray.clip.backbone import Backbone
from react_ray.draft import Draft, create_anew
from react_ray.errors import ArtifactMismatch
from react_ray.evals.resampled import OfImages
from react_ray.evals.score import Score, score_table
from react_ray.gated.load import load_backbone
from react_ray.kinds import OUTPUTS, SCORES, NoFacts, ScoresFacts
from react_ray.manifest import MANIFEST, Receipt
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.report.intervals import Gain, Paired, paired_metric_gain
from react_ray.report.numbers import gain_interval
from react_ray.runtime.device import worker_device
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, Work, map_parts
from react_ray.runtime.placement import actor_pool, is_soonest_here, num_threads
from react_ray.stages.evaluating.scored_model import ScoredModel, load_scored, scored_models
from react_ray.storage import open_storage


class Figure(NamedTuple):
    task: str
    metric: str
    value: float
    num: int  # of what was averaged
    of_images: OfImages | None = None  # None = it has no interval


class Protocol:
    """One protocol on one set. It travels to every process, so it holds only what is small."""

    name: ClassVar[str]  # as in Score.protocol
    dataset: str
    whose: str  # the field of the recipe that names the set
    images_per_part: int

    @property
    def num_images(self) -> int:
        raise NotImplementedError

    @property
    def num_parts(self) -> int:
        return -(-self.num_images // self.images_per_part)

    @property
    def setting(self) -> str:
        """As in Score."""
        return ""

    def config(self) -> dict[str, Any]:
        """All on which outputs and scores depend, besides the model; `images` is a digest of the set."""
        raise NotImplementedError

    def read(self, part: int) -> pa.Table:
        raise NotImplementedError

    def prepare(self, backbone: Backbone, device: torch.device, num_threads: int) -> Any:
        """Makes what every part needs of a model, once in each process: an embedder, vectors of classes."""
        raise NotImplementedError

    def outputs(self, table: pa.Table, prepared: Any) -> pa.Table:
        """What a model makes of one part, as `read` returned it. prepared: of the model, by `prepare`."""
        raise NotImplementedError

    def figures(self, parts: Iterator[pa.Table]) -> list[Figure]:
        """parts: all outputs of one model, in order."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Scored:
    """One model on one set: what is made of it, and the config by which."""

    row: str
    model: ScoredModel
    protocol: Protocol
    config: dict[str, Any]
    scores: Draft[ScoresFacts]
    outputs: Draft[NoFacts] | None  # None where the scores are finished


@dataclass(frozen=True)
class _Job:
    model: ScoredModel
    protocol: Protocol
    draft: Draft[NoFacts]
    part: int


def run_protocols(recipe: Recipe, protocols: Sequence[Protocol]) -> list[Artifact[ScoresFacts]]:
    """Returns the sealed `scores` of each model that has a tower of its own, on each of the sets.

    What is finished stays. ArtifactMismatch if a set was replaced in its place; what another model, or other options,
    made of the same set is made anew.
    """
    if not protocols:
        return []
    found = []
    for row, model in _rows(recipe).items():
        described = {"backbone": load_backbone(model.backbone, seed=recipe.seed).describe(), "wise_ft": model.wise_ft}
        found += [_begin(recipe, row, model, protocol, protocol.config() | described) for protocol in protocols]
    jobs = [
        _Job(one.model, one.protocol, one.outputs, part)
        for one in found
        if one.outputs and not one.outputs.sealed
        for part in one.outputs.pending()
    ]
    _make_outputs(recipe, jobs)
    of_bases: dict[str, list[Figure]] = {}  # by the place of the outputs
    return [_score(recipe, one, of_bases) for one in found]


def _begin(recipe: Recipe, row: str, model: ScoredModel, protocol: Protocol, config: dict[str, Any]) -> _Scored:
    layout, place = Layout(recipe), (row, protocol.name, protocol.dataset)
    uri = layout.protocol_scores(*place)
    if plan_of(uri).get("config", config)["images"] != config["images"]:
        raise set_replaced(protocol.whose, uri)
    scores = create_anew(uri, SCORES, config, model.parents, 1)
    outputs = None
    if not scores.sealed:
        outputs = create_anew(layout.outputs(*place), OUTPUTS, config, model.parents, protocol.num_parts)
    return _Scored(row, model, protocol, config, scores, outputs)


def set_replaced(whose: str, uri: str) -> ArtifactMismatch:
    """The error for a set that was replaced in its place since it was scored. whose: its field. uri: of the scores."""
    return ArtifactMismatch(
        f"{uri}: the images or labels of {whose} are not those that were scored; give the set of now another name, or "
        f"delete {open_storage(uri).uri} and run `react-ray evaluate RECIPE` again"
    )


def _rows(recipe: Recipe) -> dict[str, ScoredModel]:
    """The rows of the table that have image and text vectors in one space, unlike classifiers of the classes."""
    found = scored_models(recipe)
    if heads := [name for name, model in found.items() if model.head]:
        say(f"evaluate   only classification scores {', '.join(heads)}, which can tell nothing but the classes apart")
    return {name: model for name, model in found.items() if not model.head}


def _make_outputs(recipe: Recipe, jobs: list[_Job]) -> None:
    here = is_soonest_here(
        recipe.cluster, sum(min(job.protocol.num_images, job.protocol.images_per_part) for job in jobs)
    )
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


def _score(recipe: Recipe, one: _Scored, of_bases: dict[str, list[Figure]]) -> Artifact[ScoresFacts]:
    if one.outputs is None:
        return one.scores.open()
    began, protocol = time.monotonic(), one.protocol
    figures = protocol.figures(one.outputs.seal().tables())
    gains = _gains(figures, _figures_of_base(recipe, one, of_bases))
    found = [
        Score(protocol.name, one.row, protocol.dataset, *figure[:4], seed=recipe.seed, setting=protocol.setting)
        for figure in figures
    ]
    one.scores.commit(0, score_table(found), time.monotonic() - began)
    setting = f" ({protocol.setting})" if protocol.setting else ""
    told = f"{protocol.name} of {one.row or 'the model'} on {protocol.dataset}{setting}"
    said = []
    if gains:
        changes = ", ".join(f"{metric} {gain_interval(gain)}" for (_, metric), gain in gains.items())
        said = [f"{told} against the base, points: {changes}"]
    listed = [{"task": task, "metric": metric, **gain._asdict()} for (task, metric), gain in gains.items()]
    return one.scores.seal(ScoresFacts(said, listed))


def _figures_of_base(recipe: Recipe, one: _Scored, of_bases: dict[str, list[Figure]]) -> list[Figure]:
    """Those of the model that the row is compared with; none for a base, and where its outputs were deleted."""
    if one.row in recipe.bases():
        return []
    uri = Layout(recipe).outputs(recipe.base_of(one.row), one.protocol.name, one.protocol.dataset)
    if uri not in of_bases:
        there = open_storage(uri).exists(MANIFEST)
        of_bases[uri] = one.protocol.figures(open_artifact(uri, OUTPUTS).tables()) if there else []
    return of_bases[uri]


def _gains(figures: Sequence[Figure], of_base: Sequence[Figure]) -> dict[tuple[str, str], Gain]:
    """(task, metric) -> the difference of each figure that has an interval, by a paired bootstrap over images."""
    base = {figure[:2]: figure.of_images for figure in of_base}
    found = {}
    for figure in figures:
        one, other = figure.of_images, base.get(figure[:2])
        if one and other:
            changed_N = (one.by_image != other.by_image).reshape(len(one.by_image), -1).any(axis=1)
            pair = Paired(one.metric, other.metric, changed_N)
            found[figure.task, figure.metric] = paired_metric_gain([pair], one.resamples)
    return found
