"""evaluate: labelled images -> `scores/`, the predictions of each base and of each arm's model.

The images are embedded once by each model that embeds differently (evaluating/features.py), by a pool of actors, or by
this process alone if they are few: to start a process costs more than to embed a small evaluation set. A model that is
scored already is scored only on the sets that were added since.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from react_ray.artifact import Artifact, plan_of
from react_ray.clip.prompts import TargetTask, by_own_names, load_tasks
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch
from react_ray.evals.labelled import Slice, slices_of
from react_ray.evals.set_name import field_of
from react_ray.evals.tested import classified_set, other_sets
from react_ray.evals.zeroshot import FROM_CLASS_SCORES, check_readable, summarise
from react_ray.gated.load import load_backbone
from react_ray.kinds import PREDICTIONS, PredictionsFacts
from react_ray.manifest import MANIFEST
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout, any_customised, models
from react_ray.runtime.map_parts import MapStage, map_parts
from react_ray.runtime.placement import actor_pool, is_soonest_here, num_threads
from react_ray.stages.evaluating.all_scores import write_scores
from react_ray.stages.evaluating.classify_slice import Candidate, ClassifySlice, Job, ReadSlice
from react_ray.stages.evaluating.detection import detection_sets
from react_ray.stages.evaluating.features import embed_sets
from react_ray.stages.evaluating.few_shot_runs import learn_from_shots
from react_ray.stages.evaluating.image_text_retrieval import captioned_sets
from react_ray.stages.evaluating.pixel_references import Pixels, pixel_references
from react_ray.stages.evaluating.protocol import run_protocols, set_replaced
from react_ray.stages.evaluating.scored_model import ScoredModel, scored_models
from react_ray.stages.evaluating.segmentation import segmentation_sets
from react_ray.stages.training.kept_apart import check_kept_apart
from react_ray.storage import open_storage


def run(recipe: Recipe) -> list[Artifact]:
    """Returns the sealed `predictions` of each base, then of each arm, then of small pictures, and the `scores` of what
    was learned from few labels and of the other protocols.

    There is one base, unless arms customise several backbones. All scores of the run are in scores.json and
    scores.parquet, too.
    """
    if not any_customised(recipe):
        made_by = "; `react-ray customize RECIPE` makes their models" if recipe.ingest.source else ""
        say(f"evaluate   the base alone, since no arm is customised{made_by}")
    protocols = [*captioned_sets(recipe), *segmentation_sets(recipe), *detection_sets(recipe)]
    check_kept_apart(recipe, other_sets(recipe.evaluate, load_tasks(recipe.tasks)))
    made = [*_classify(recipe), *run_protocols(recipe, protocols)]
    write_scores(recipe)
    return made


def _classify(recipe: Recipe) -> list[Artifact]:
    if not recipe.evaluate.datasets:
        return []
    tasks = load_tasks(recipe.tasks)
    most = recipe.evaluate.max_unreadable
    slices = {name: slices_of(name, uri, tasks, most) for name, uri in recipe.evaluate.datasets.items()}
    sets = [(name, recipe.evaluate.datasets[name], parts[0].digest) for name, parts in slices.items() if parts]
    check_kept_apart(recipe, (classified_set(*one) for one in sets))
    rows = scored_models(recipe)
    places = models(recipe)
    candidates = [_candidate(recipe, tasks, name, model, places[name], slices) for name, model in rows.items()]
    if tasks and slices:
        candidates += [_of_pixels(recipe, tasks, *row, slices) for row in pixel_references(recipe).items()]
    jobs = [(c, part) for c in candidates if not c.scores.sealed for part in c.scores.pending()]
    embedded = embed_sets(recipe, tasks, rows, _to_embed(jobs, slices))
    here = is_soonest_here(recipe.cluster, num_images=0)  # to classify vectors takes no time beside making them
    stage = MapStage(
        "evaluate",
        ReadSlice(jobs, tasks, embedded),
        ClassifySlice(jobs, recipe, tasks, embedded, num_threads(recipe.cluster, here)),
        noun="images",
        options=actor_pool(recipe.cluster, "embed") | {"num_gpus": 0},
        retries=recipe.cluster.part_retries,
        here=here,
    )
    map_parts(stage, list(range(len(jobs))), len(jobs))
    scores = [c.scores.open() if c.scores.sealed else _seal(c, recipe, tasks) for c in candidates]
    return [*scores, *learn_from_shots(recipe, tasks, rows, slices)]


def _candidate(
    recipe: Recipe,
    tasks: list[TargetTask],
    name: str,
    model: ScoredModel,
    uri: str,
    slices: dict[str, list[Slice]],
) -> Candidate:
    config = recipe.evaluate.digested() | {
        "backbone": load_backbone(model.backbone, seed=recipe.seed).describe(),
        "tasks": [[task.name, list(task.class_names), list(task.templates), *_own(task)] for task in tasks],
    }
    return Candidate(name, model, *_begin(uri, config, model.parents, slices))


def _own(task: TargetTask) -> list[str]:
    """What else predictions depend on. Synonyms made prompts in earlier versions."""
    by_name = ["prompts by own names"] if task != by_own_names(task) else []
    return [task.metric] * (task.metric in FROM_CLASS_SCORES) + by_name + ["squash"] * task.squash


def _to_embed(jobs: list[Job], slices: dict[str, list[Slice]]) -> dict[str, dict[str, list[Slice]]]:
    """The sets of which a row has something to classify."""
    wanted: dict[str, dict[str, list[Slice]]] = {}
    for candidate, part in jobs:
        if isinstance(candidate.model, ScoredModel):
            name = candidate.slices[part].dataset
            wanted.setdefault(candidate.name, {})[name] = slices[name]
    return wanted


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
            raise set_replaced(field_of(name), uri)
    # What is scored keeps its parts, also of sets that the recipe no longer has, if they are finished.
    scored = {name: source for name, source in scored.items() if wanted.get(name, source if finished else "") == source}
    num_scored = found.get("parts", 0) if finished else 0
    to_score = [name for name in {**scored, **wanted} if not (finished and name in scored)]
    parts = dict(enumerate((part for name in to_score for part in slices[name]), num_scored))
    grown, smaller = config | {"datasets": {**scored, **wanted}}, config | {"datasets": scored}
    num_parts = num_scored + len(parts)
    return create(uri, PREDICTIONS, grown, parents, num_parts, grows=True, smaller=smaller), parts


def _seal(candidate: Candidate, recipe: Recipe, tasks: list[TargetTask]) -> Artifact[PredictionsFacts]:
    scores = candidate.scores
    parts = [scores.read(part) for part in range(scores.num_parts)]
    predictions = pa.concat_tables(parts, promote_options="default")
    check_readable(predictions, recipe.evaluate.max_unreadable)
    rows = summarise(predictions, tasks)
    names = ("dataset", "task", "metric", "value", "num_images")
    found = [dict(zip(names, row, strict=True)) | {"model": candidate.name, "seed": recipe.seed} for row in rows]
    fitted = scores.receipt(0).facts.get("fitted", {}) if scores.num_parts else {}
    return scores.seal(PredictionsFacts(found, fitted))
