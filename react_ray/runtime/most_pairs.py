"""How many pairs a training can get at most, and which trainings that cannot train are refused before Ray starts."""

from __future__ import annotations

from react_ray.artifact import open_artifact
from react_ray.clip.prompts import load_tasks, prompts
from react_ray.errors import ConfigError
from react_ray.gated.config import runs_no_model, trains
from react_ray.kinds import IMAGES, PAIRS, RETRIEVED, Kind
from react_ray.manifest import MANIFEST
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.storage import join, open_storage
from react_ray.training.movement import check_movement
from react_ray.training.schedule import from_data


def check_schedules(recipe: Recipe) -> None:
    """ConfigError for the first arm without a model whose training would be too short to change it, whatever comes."""
    for arm in recipe.arm_names():
        if open_storage(Layout(recipe, arm).of_arm("model")).exists(MANIFEST):
            continue
        most, config = most_pairs(recipe, arm), recipe.arm(arm).customize
        if not most or config.labelled_alone:
            continue
        where = f"customize {arm}".strip()
        if config.batch_size > most and not runs_no_model(config.method):
            raise ConfigError(
                f"{where}: customize.batch_size {config.batch_size} is larger than the {most:,} pairs that there can "
                "be at most; make it smaller, leave it to the data with 0, or retrieve more"
            )
        if trains(config.method):
            check_movement(from_data(config, most), most, where)


def most_pairs(recipe: Recipe, arm: str = "") -> int | None:
    """The number of an arm's retrieved pairs if it has them, else an upper bound of it, None where there is none.

    Fewer may be retrieved, because classes share hits, and fewer may train, because images are missing.
    """
    wanted, root = recipe.arm(arm), Layout(recipe, arm).retrieved_root()
    if wanted.customize.train_on == "source":
        return None
    if (rows := _rows(join(root, "retrieved"), RETRIEVED)) is not None:
        return rows
    pool = [_rows(Layout(recipe).database(kind.name), kind) for kind in (PAIRS, IMAGES)]
    limits = [wanted.ingest.max_rows, wanted.retrieve.max_pairs, *(rows for rows in pool if rows), *_of_search(wanted)]
    return min((limit for limit in limits if limit), default=None)


def _of_search(wanted: Recipe) -> list[int]:
    """What the search and the selection allow; a random control is as large as the selection that it controls."""
    tasks, config = load_tasks(wanted.tasks), wanted.retrieve
    num_sentences, num_seeded = len(wanted.tasks.queries), len(wanted.tasks.seed_images)
    num_classes = sum(len(task.class_names) for task in tasks) + num_sentences + num_seeded
    limits = [num_classes * config.pairs_per_class]
    # Nobody knows yet how many queries seed images are, and how many hits a name in captions has.
    if not (num_seeded or config.by_class or config.selection == "string"):
        averaged = config.prompts == "averaged"
        num_queries = num_sentences + sum(len(task.class_names if averaged else prompts(task)) for task in tasks)
        limits.append(num_queries * len(config.keys) * config.deepest_k)
    return limits


def _rows(uri: str, kind: Kind) -> int | None:
    return open_artifact(uri, kind).rows if open_storage(uri).exists(MANIFEST) else None
