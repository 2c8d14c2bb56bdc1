"""status: how far a run is, from what lies on its storage: parts, steps, leases. Nothing is started or written.

Takes a recipe, gives for each of its verbs what is done, and what to do next. It reads the receipts' names, not the
receipts, so it is quick while the run goes on.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from react_ray.artifact import plan_of
from react_ray.draft import open_unfinished
from react_ray.errors import ReactRayError
from react_ray.gated.config import CustomizeConfig, runs_no_model
from react_ray.index.shards import uncovered
from react_ray.kinds import EMBEDDINGS, INDEX, PAIRS
from react_ray.lease import holder_of
from react_ray.manifest import MANIFEST
from react_ray.metadata import read_json_lines
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.most_pairs import most_pairs
from react_ray.stages.reporting.steps import artifacts_of
from react_ray.storage import open_storage
from react_ray.training.schedule import from_data, num_steps

DONE, BEGUN, OPEN = "done", "begun", "open"
REPORT = "report.html"


@dataclass(frozen=True)
class ArtifactStatus:
    """One artifact, or the training that makes it."""

    uri: str
    state: str  # done, begun or open
    done: int = 0
    total: int | None = None  # None = it is not known yet
    unit: str = "parts"
    since: str = ""  # when it was begun
    problem: str = ""  # why it cannot be read


@dataclass(frozen=True)
class Stage:
    verb: str
    artifacts: list[ArtifactStatus]
    note: str = ""

    @property
    def state(self) -> str:
        states = {one.state for one in self.artifacts}
        return states.pop() if len(states) == 1 else BEGUN


@dataclass(frozen=True)
class Writer:
    """A command that writes there. lives: None if that is not known, as of one on another machine."""

    text: str
    lives: bool | None


@dataclass(frozen=True)
class Status:
    name: str
    run: str
    database: str
    stages: list[Stage]
    holders: list[Writer] = field(default_factory=list)
    next: str = ""  # the command that goes on; "" if the run is complete

    def as_dict(self) -> dict[str, Any]:
        stages = [asdict(stage) | {"state": stage.state} for stage in self.stages]
        return asdict(self) | {"stages": stages, "complete": not self.next}


def status_of(recipe: Recipe, command: str) -> Status:
    """command: that goes on with the run, such as `react-ray run RECIPE`."""
    stages = [Stage(verb, [_status(recipe, verb, uri) for uri in uris]) for verb, uris, _ in artifacts_of(recipe)]
    stages = [_with_additions(recipe, stage) for stage in stages]
    report = open_storage(recipe.out).exists(REPORT)
    stages.append(Stage("report", [ArtifactStatus(f"{recipe.out}/{REPORT}", DONE if report else OPEN, unit="")]))
    waiting = any(stage.state != DONE or stage.note for stage in stages)
    writers = [_writer(root) for root in dict.fromkeys((recipe.out, recipe.database))]
    holders = [writer for writer in writers if writer is not None]
    return Status(recipe.name, recipe.out, recipe.database, stages, holders, command if waiting else "")


def _status(recipe: Recipe, verb: str, uri: str) -> ArtifactStatus:
    """What is done of an artifact; one that is damaged is no error here, but what there is to be said of it."""
    try:
        plan = plan_of(uri)
        since = str(plan.get("created", ""))
        if open_storage(uri).exists(MANIFEST):
            parts = open_unfinished(uri)
            unit = "parts" if verb != "customize" else uri.rpartition("/")[2]  # "model" or "head"
            return ArtifactStatus(uri, DONE, parts.num_parts, parts.num_parts, unit, since)
        if verb == "customize" and uri.endswith("/model"):
            return _training(recipe, uri, since)
        if not plan:
            return ArtifactStatus(uri, OPEN)
        parts = open_unfinished(uri)
        return ArtifactStatus(uri, BEGUN, len(parts.done()), parts.num_parts, since=since)
    except ReactRayError as error:
        return ArtifactStatus(uri, BEGUN, problem=str(error))


def _training(recipe: Recipe, uri: str, since: str) -> ArtifactStatus:
    """The last step whose metrics are on storage, which are written with each checkpoint."""
    arm = next(arm for arm in recipe.arm_names() if Layout(recipe, arm).of_arm("model") == uri)
    run, path = open_storage(recipe.out), f"metrics/train-{arm or 'model'}.jsonl"
    rows = read_json_lines(run, path, dict[str, float], "delete it") if since and run.exists(path) else []
    step = int(rows[-1].get("step", 0)) if rows else 0
    return ArtifactStatus(uri, BEGUN if since else OPEN, step, _steps(recipe, arm, uri), "steps", since)


def _steps(recipe: Recipe, arm: str, uri: str) -> int | None:
    """The steps of a training, if the number of its pairs is known; a few fewer if some have no image."""
    planned = plan_of(uri).get("config", {})
    config, pairs = recipe.arm(arm).customize, most_pairs(recipe, arm)
    with suppress(ValueError, TypeError):
        known = {name: planned[name] for name in CustomizeConfig.model_fields if name in planned and name != "backbone"}
        config = CustomizeConfig.model_validate(config.model_dump() | known)
    if not pairs or runs_no_model(config.method):
        return None
    settled = from_data(config, pairs)
    return num_steps(settled, pairs) if pairs >= settled.batch_size else None


def _with_additions(recipe: Recipe, stage: Stage) -> Stage:
    """A finished database may have got more pairs, which embed and index take in turn."""
    if stage.verb not in ("embed", "index") or stage.state != DONE:
        return stage
    try:
        layout = Layout(recipe)
        embeddings = layout.open_database(EMBEDDINGS)
        if stage.verb == "index":
            missing, of = len(uncovered(layout.open_database(INDEX), embeddings)), "embeddings"
        else:
            missing, of = _num_parts(layout.database(PAIRS.name)) - embeddings.num_parts, PAIRS.name
    except ReactRayError as error:
        return Stage(stage.verb, stage.artifacts, str(error))
    note = f"{missing} parts of {of} were added since" if missing > 0 else ""
    return Stage(stage.verb, stage.artifacts, note)


def _num_parts(uri: str) -> int:
    return open_unfinished(uri).num_parts if plan_of(uri) else 0


def _writer(root: str) -> Writer | None:
    found = holder_of(root)
    if found is None:
        return None
    holder, lives = found
    state = {None: ", on another machine", True: "", False: ", but has died: the next command takes over"}[lives]
    return Writer(f"{root}: {holder}{state}", lives)
