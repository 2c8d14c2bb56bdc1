"""evaluate: labelled images -> `scores/`, the predictions of each base and of each arm's model.

One pool of actors serves all models, or this process alone if the images are few: to start a process costs more than to
classify a small evaluation set. A model that is scored already is scored only on the sets that were added since.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from react_ray.artifact import Artifact, plan_of
from react_ray.clip.prompts import TargetTask, load_tasks
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch
from react_ray.evals.labelled import IMAGES_PER_PART, ReadSlices, Slice, slices_of
from react_ray.evals.zeroshot import check_readable, summarise
from react_ray.gated.load import load_backbone
from react_ray.kinds import PREDICTIONS, PredictionsFacts
from react_ray.manifest import MANIFEST
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout, models
from react_ray.runtime.map_parts import MapStage, map_parts
from react_ray.runtime.placement import actor_pool, is_soonest_here, num_threads
from react_ray.stages.evaluating.classify_slice import Candidate, ClassifySlice
from react_ray.stages.evaluating.pixel_references import Pixels, pixel_references
from react_ray.stages.evaluating.scored_model import ScoredModel, scored_model
from react_ray.storage import open_storage


def run(recipe: Recipe) -> list[Artifact]:
    """Returns the sealed `predictions` of each base, then of each arm, then of small pictures.

    There is one base, unless arms customise several backbones.
    """
    tasks = load_tasks(recipe.tasks)
    most = recipe.evaluate.max_unreadable
    slices = {name: slices_of(name, uri, tasks, most) for name, uri in recipe.evaluate.datasets.items()}
    candidates = [_candidate(recipe, tasks, *row, slices) for row in models(recipe).items()]
    if tasks and slices:
        candidates += [_of_pixels(recipe, tasks, *row, slices) for row in pixel_references(recipe).items()]
    open_ones = [c for c in candidates if not c.scores.sealed]
    jobs = _jobs([(c, part) for c in open_ones for part in c.scores.pending()])
    here = is_soonest_here(recipe.cluster, sum(_num_images(*job[0]) for job in jobs))
    stage = MapStage(
        "evaluate",
        ReadSlices([c.slices[part] for [(c, part), *_] in jobs], tasks),
        ClassifySlice(jobs, recipe, tasks, num_threads(recipe.cluster, here)),
        noun="images",
        options=actor_pool(recipe.cluster, "embed"),
        retries=recipe.cluster.part_retries,
        here=here,
    )
    map_parts(stage, list(range(len(jobs))), len(jobs))
    return [c.scores.open() if c.scores.sealed else _seal(c, recipe) for c in candidates]


def _candidate(
    recipe: Recipe, tasks: list[TargetTask], name: str, uri: str, slices: dict[str, list[Slice]]
) -> Candidate:
    model = scored_model(recipe, name)
    config = recipe.evaluate.digested() | {
        "backbone": load_backbone(model.backbone, seed=recipe.seed).describe(),
        "tasks": [[task.name, list(task.class_names), list(task.templates)] for task in tasks],
    }
    return Candidate(name, model, *_begin(uri, config, model.parents, slices))


def _jobs(pending: list[tuple[Candidate, int]]) -> list[list[tuple[Candidate, int]]]:
    """Puts together the parts that hold the same images, embedded by the same model, in the order of the first."""
    jobs: list[list[tuple[Candidate, int]]] = []
    for one in pending:
        alike = next((job for job in jobs if _share_vectors(job[0], one)), None)
        if alike:
            alike.append(one)
        else:
            jobs.append([one])
    return jobs


def _num_images(candidate: Candidate, part: int) -> int:
    """The images that a model embeds for this part of its predictions, at most; none where pixels are compared."""
    return min(IMAGES_PER_PART, candidate.slices[part].files.num_rows) * isinstance(candidate.model, ScoredModel)


def _share_vectors(one: tuple[Candidate, int], other: tuple[Candidate, int]) -> bool:
    (a, part_a), (b, part_b) = one, other
    if not isinstance(a.model, ScoredModel) or not isinstance(b.model, ScoredModel):
        return False
    slice_a, slice_b = a.slices[part_a], b.slices[part_b]
    same_images = (slice_a.dataset, slice_a.start) == (slice_b.dataset, slice_b.start)
    return same_images and a.model.embeds_like(b.model)


def _of_pixels(
    recipe: Recipe, tasks: list[TargetTask], name: str, pixels: Pixels, slices: dict[str, list[Slice]]
) -> Candidate:
    """Its scores follow from other artifacts in seconds, so those of other pairs are replaced."""
    uri = Layout(recipe).scores(name)
    config = {
        "datasets": recipe.evaluate.datasets,
        "tasks": [[task.name, list(task.class_names)] for task in tasks],
        "pixels": pixels.config,
    }
    try:
        scores, parts = _begin(uri, config, pixels.parents, slices)
    except ArtifactMismatch:
        open_storage(uri).delete_all()
        scores, parts = _begin(uri, config, pixels.parents, slices)
    return Candidate(name, pixels, scores, parts)


def _begin(
    uri: str, config: dict[str, Any], parents: dict[str, Artifact[Any]], slices: dict[str, list[Slice]]
) -> tuple[Draft[PredictionsFacts], dict[int, Slice]]:
    """Begins scores, or makes room for sets that were added since; returns their parts that may be pending, too.

    ArtifactMismatch if a set was replaced in its place since it was scored.
    """
    found, finished = plan_of(uri), open_storage(uri).exists(MANIFEST)
    wanted = {name: [source, slices[name][0].digest] for name, source in config["datasets"].items()}
    scored = found.get("config", {}).get("datasets", {})
    for name in scored.keys() & wanted.keys():
        if scored[name] != wanted[name] and scored[name][0] == wanted[name][0]:
            raise ArtifactMismatch(
                f"{uri}: the images or labels of evaluate.datasets.{name} are not those that were scored; give the "
                f"set of now another name, or delete {open_storage(uri).uri} and run `react-ray evaluate RECIPE` again"
            )
    # What is scored keeps its parts, also of sets that the recipe no longer has, if they are finished.
    scored = {name: source for name, source in scored.items() if wanted.get(name, source if finished else "") == source}
    num_scored = found.get("parts", 0) if finished else 0
    to_score = [name for name in {**scored, **wanted} if not (finished and name in scored)]
    parts = dict(enumerate((part for name in to_score for part in slices[name]), num_scored))
    grown, smaller = config | {"datasets": {**scored, **wanted}}, config | {"datasets": scored}
    num_parts = num_scored + len(parts)
    return create(uri, PREDICTIONS, grown, parents, num_parts, grows=True, smaller=smaller), parts


def _seal(candidate: Candidate, recipe: Recipe) -> Artifact[PredictionsFacts]:
    scores = candidate.scores
    predictions = pa.concat_tables(scores.read(part) for part in range(scores.num_parts))
    check_readable(predictions, recipe.evaluate.max_unreadable)
    rows = summarise(predictions)
    names = ("dataset", "task", "metric", "value", "num_images")
    found = [dict(zip(names, row, strict=True)) | {"model": candidate.name, "seed": recipe.seed} for row in rows]
    fitted = scores.receipt(0).facts.get("fitted", {}) if scores.num_parts else {}
    return scores.seal(PredictionsFacts(found, fitted))
