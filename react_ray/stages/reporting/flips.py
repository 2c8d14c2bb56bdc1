"""Picks examples of the images that flipped, and reads their pictures from the labelled set."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain, zip_longest

from react_ray.errors import ReactRayError
from react_ray.evals.labelled import IMAGES_PER_PART
from react_ray.evals.set_files import open_files
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.report.data import Flip
from react_ray.report.thumbnail import thumbnail
from react_ray.stages.reporting.outcomes import Flipped

SHOWN = 16  # examples in either direction
MAX_SLICES = 4  # slices of the labelled set that are read for them


def flip_examples(recipe: Recipe, dataset: str, flipped: list[Flipped]) -> list[Flip]:
    """Returns up to SHOWN examples of images gained and as many of images lost, spread over tasks.

    Without the labelled set, which may have been moved since it was scored, there are none.
    """
    slices = sorted({flip.row // IMAGES_PER_PART for flip in flipped})[:MAX_SLICES]
    near = [flip for flip in flipped if flip.row // IMAGES_PER_PART in slices]
    chosen = [
        *_spread([f for f in near if f.arm_said == f.label]),
        *_spread([f for f in near if f.arm_said != f.label]),
    ]
    wanted = sorted({flip.row for flip in chosen})
    images: dict[int, bytes] = {}
    try:
        files = open_files(recipe.evaluate.datasets.get(dataset, ""), f"evaluate.datasets.{dataset}")
        for number in slices:
            rows = [row for row in wanted if row // IMAGES_PER_PART == number]
            cells = files.images(rows[0], rows[-1] - rows[0] + 1) if rows else []
            small = {row: thumbnail(cells[row - rows[0]].data) for row in rows if row - rows[0] < len(cells)}
            images |= {row: data for row, data in small.items() if data}
    except ReactRayError as error:
        say(f"report: no pictures of images that flipped: {error}")
    return [Flip(f.task, f.label, f.base_said, f.arm_said, images[f.row]) for f in chosen if f.row in images]


def _spread(flipped: list[Flipped]) -> list[Flipped]:
    """Takes the first of each task, then the second of each, and so on."""
    by_task: dict[str, list[Flipped]] = defaultdict(list)
    for flip in flipped:
        by_task[flip.task].append(flip)
    return [flip for flip in chain.from_iterable(zip_longest(*by_task.values())) if flip is not None][:SHOWN]
