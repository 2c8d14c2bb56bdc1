"""Picks examples of the images that flipped, and reads their pictures from the labelled set."""

from __future__ import annotations

import io
from collections import defaultdict
from itertools import chain, zip_longest

from react_ray.clip.prompts import load_tasks
from react_ray.errors import ReactRayError
from react_ray.evals.labelled import IMAGES_PER_PART, Slice, read_slice
from react_ray.pairs.image import decode_whole
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.report.data import Flip
from react_ray.stages.reporting.outcomes import Flipped

SHOWN = 16  # examples in either direction
MAX_SLICES = 4  # slices of the labelled set that are read for them
SIDE = 112  # pixels, at most


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
    wanted = {flip.row for flip in chosen}
    images: dict[int, bytes] = {}
    tasks = load_tasks(recipe.tasks)
    for number in sorted({row // IMAGES_PER_PART for row in wanted}):
        try:
            table = read_slice(Slice(dataset, recipe.evaluate.datasets[dataset], number * IMAGES_PER_PART), tasks)
        except (ReactRayError, KeyError) as error:
            say(f"report: no pictures of images that flipped, because {dataset} cannot be read: {error}")
            return []
        for row, image in zip(table["row"].to_pylist(), table["image"], strict=True):
            if row in wanted and (small := _thumbnail(image.as_py())):
                images[row] = small
    return [Flip(f.task, f.label, f.base_said, f.arm_said, images[f.row]) for f in chosen if f.row in images]


def _spread(flipped: list[Flipped]) -> list[Flipped]:
    """Takes the first of each task, then the second of each, and so on."""
    by_task: dict[str, list[Flipped]] = defaultdict(list)
    for flip in flipped:
        by_task[flip.task].append(flip)
    return [flip for flip in chain.from_iterable(zip_longest(*by_task.values())) if flip is not None][:SHOWN]


def _thumbnail(data: bytes | None) -> bytes | None:
    """Returns a WebP of at most SIDE pixels; None if the image cannot be decoded."""
    try:
        image = decode_whole(data, SIDE)
    except ValueError:
        return None
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()
