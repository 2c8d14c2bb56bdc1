"""Learns classifiers from few labels with each model: `scores_few/<row>/<set>`.

Takes the features of a labelled set and of its training set (features.py), gives for each method, number of shots and
seed one part: the scores (schema.SCORES), and beside them the predictions that they are of. A part is one task of Ray,
or is done by an actor if its method fine-tunes the model (fine_tune_runs.py); shots, methods and seeds that a recipe
adds later are new parts. Next: few_shot_work.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from react_ray.artifact import Artifact, plan_of
from react_ray.clip.prompts import TOP1, TargetTask
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch
from react_ray.evals.config import EvaluateConfig
from react_ray.evals.few_shot import FINE_TUNING, FineTuning, numbers
from react_ray.evals.labelled import Slice, check_shots, slices_of
from react_ray.evals.score import ALL_SHOTS, COLLAPSED
from react_ray.evals.set_name import training_set
from react_ray.evals.shot_methods import BEST_EPOCH
from react_ray.kinds import SCORES, ScoresFacts
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, ReadNothing, map_parts
from react_ray.runtime.placement import is_soonest_here, placement
from react_ray.stages.evaluating.features import embed_sets
from react_ray.stages.evaluating.few_shot_work import Job, LearnFromShots, Learning, Sets
from react_ray.stages.evaluating.fine_tune_runs import fine_tune_rows, rows_to_fine_tune
from react_ray.stages.evaluating.scored_model import ScoredModel
from react_ray.storage import open_storage

PASSES = 15  # over the drawn images, that a sweep takes at least


def learn_from_shots(
    recipe: Recipe, tasks: list[TargetTask], rows: dict[str, ScoredModel], slices: dict[str, list[Slice]]
) -> list[Artifact[ScoresFacts]]:
    """Returns the sealed scores of each row whose model scores by prompts, for each set that has a set to train on.

    rows: of the table. slices: of each set. Rows that score by a head embed like another row, or see patch tokens, for
    which there are no prompts to begin with; they are left out.
    """
    config = recipe.evaluate
    if not config.shots or not tasks:
        return []
    check_shots(config, tasks)
    most = config.max_unreadable
    training = {name: slices_of(training_set(name), uri, tasks, most) for name, uri in config.train.items()}
    wanted = {name: slices[name] for name in training} | {training_set(name): of for name, of in training.items()}
    by_prompts = [row for row, model in rows.items() if not model.head]
    tuned = rows_to_fine_tune(recipe, {row: rows[row] for row in by_prompts})
    embedded = embed_sets(recipe, tasks, rows, {row: wanted for row in by_prompts})
    found = [
        Sets(row, name, embedded.features[row, name], embedded.features[row, training_set(name)], embedded.classes[row])
        for row, name in product(by_prompts, training)
    ]
    _say_leaks(found)
    begun = [_begin(recipe, tasks, one, learnings(config, tuned.get(one.row, []))) for one in found]
    jobs = [job for _, pending in begun for job in pending]
    _on_vectors(recipe, [job for job in jobs if job.learning[0] not in FINE_TUNING], tasks)
    fine_tune_rows(recipe, [job for job in jobs if job.learning[0] in FINE_TUNING], tasks, rows, wanted)
    sealed = [draft.seal() for draft, _ in begun]
    _say_collapsed(sealed)
    return sealed


def learnings(config: EvaluateConfig, tuned: Sequence[FineTuning] = ()) -> list[Learning]:
    """With all images there is nothing to draw, so only the first seed counts. tuned: the methods by which the model
    can be fine-tuned; the others that fine-tune are left out."""
    seeds = list(dict.fromkeys(config.shot_seeds))
    methods = [method for method in dict.fromkeys(config.shot_methods) if method not in FINE_TUNING or method in tuned]
    return [
        (method, number, seed)
        for method, number in product(methods, numbers(config.shots))
        for seed in (seeds[:1] if number == ALL_SHOTS else seeds)
    ]


def _on_vectors(recipe: Recipe, jobs: list[Job], tasks: list[TargetTask]) -> None:
    cluster = recipe.cluster
    stage = MapStage(
        "few labels",
        ReadNothing(),
        LearnFromShots(jobs, tasks, cluster.threads_per_actor),
        noun="scores",
        options={"num_cpus": cluster.threads_per_actor} | placement(cluster, "embed"),
        retries=cluster.part_retries,
        here=is_soonest_here(cluster, PASSES * sum(job.num_drawn(tasks) for job in jobs)),
    )
    map_parts(stage, list(range(len(jobs))), len(jobs))


def _begin(
    recipe: Recipe, tasks: list[TargetTask], of: Sets, wanted: list[Learning]
) -> tuple[Draft[ScoresFacts], list[Job]]:
    """Begins scores, or makes room for what was added since; returns what is to be learned, too. Those of other vectors
    or metrics are replaced, and those without the probabilities that are wanted now: they follow from artifacts alone.
    """
    uri = Layout(recipe).scores_few(of.row, of.dataset)
    before = plan_of(uri).get("config", {})
    found: list[Learning] = [tuple(one) for one in before.get("learnings", [])]
    every = list(dict.fromkeys([*found, *wanted]))
    keeps = recipe.evaluate.probabilities or before.get("probabilities", False)
    metrics = {task.name: task.metric for task in tasks if task.metric != TOP1}
    beside = ({"probabilities": True} if keeps else {}) | ({"metrics": metrics} if metrics else {})
    smaller = {"learnings": found} | beside
    try:
        draft = create(uri, SCORES, {"learnings": every} | beside, of.parents, len(every), grows=True, smaller=smaller)
    except ArtifactMismatch:
        open_storage(uri).delete_all()
        every = wanted
        draft = create(uri, SCORES, {"learnings": every} | beside, of.parents, len(every))
    pending = [] if draft.sealed else draft.pending()
    return draft, [Job(of, draft, part, every[part], keeps) for part in pending]


def _say_leaks(found: Iterable[Sets]) -> None:
    """An image that is learned from and tested on is known by its bytes; the same sets are asked about once."""
    for one in {one.dataset: one for one in found}.values():
        test, train = (
            {digest for table in artifact.tables(["sha256"]) for digest in table["sha256"].to_pylist()} - {None}
            for artifact in (one.test, one.train)
        )
        if both := len(test & train):
            where = f"evaluate.train.{one.dataset}"
            say(f"{where}: {both:,} of its images are images of evaluate.datasets.{one.dataset} too")


def _say_collapsed(scores: Iterable[Artifact[ScoresFacts]]) -> None:
    for table in (table for artifact in scores for table in artifact.tables()):
        for row in table.to_pylist():
            if row["metric"] == COLLAPSED and row["setting"] != BEST_EPOCH:
                shots = "all images" if row["shots"] == ALL_SHOTS else f"{row['shots']} shots"
                say(
                    f"{row['protocol']} of {row['model'] or 'the model'} on {row['dataset']}, {row['task']}, {shots}, "
                    f"seed {row['seed']}: the learning rate that its sweep chose has collapsed in the final training"
                )
