"""Keeps labelled images that train and evaluation sets apart, by the sha256 of the encoded images.

`customize` leaves out what is in a set of the recipe (labelled_pairs.py); `evaluate` refuses a set that was added since
and has an image on which a model was trained. Which sets were compared lies beside the labelled images, so that each is
read for this once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from react_ray.artifact import open_artifact
from react_ray.errors import ConfigError
from react_ray.evals.labelled import IMAGES_PER_PART
from react_ray.evals.tested import Tested
from react_ray.kinds import IMAGES
from react_ray.manifest import MANIFEST
from react_ray.metadata import read_json
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.storage import join, open_storage

COMPARED = "compared.json"  # content of the labelled images -> the digests of the sets that have none of them


def evaluated(sets: Iterable[Tested]) -> dict[str, str]:
    """{sha256 of an image: the field of the set that has it}"""
    found: dict[str, str] = {}
    for one in sets:
        with Progress(f"compare {one.field.rpartition('.')[2]}", one.num_images, "images", unit="images") as progress:
            for start in range(0, one.num_images, IMAGES_PER_PART):
                images = one.images(start, IMAGES_PER_PART)
                found |= {hashlib.sha256(data).hexdigest(): one.field for data in images if data}
                progress.advance(rows=len(images), done=len(images))
    return found


def check_kept_apart(recipe: Recipe, sets: Iterable[Tested]) -> None:
    """ConfigError for a set with an image that is among the labelled images of an arm.

    sets: with their digests; none is asked for if no arm has labelled images.
    """
    trained = [arm for arm in recipe.arm_names() if recipe.arm(arm).customize.labelled]
    sets = list(sets) if trained else []
    for root, arm in {Layout(recipe, arm).labelled_root(): arm for arm in trained}.items():
        if not open_storage(join(root, "images")).exists(MANIFEST):
            continue
        images = open_artifact(join(root, "images"), IMAGES)
        storage, done = open_storage(root), _compared(root).get(images.content, [])
        known = evaluated(one for one in sets if one.digest not in done)
        hashes = (one for table in images.tables(["sha256"]) for one in table["sha256"].to_pylist())
        both = [known[one] for one in hashes if one in known]
        if both:
            raise ConfigError(
                f"{both[0]}: {both.count(both[0])} of its images are among the labelled images on which "
                f"{arm or 'the model'} was trained ({root}), so its score would flatter; leave the set out, or delete "
                "what was trained on them and run the same command again"
            )
        if known:
            digests = {one.digest for one in sets}
            storage.write(COMPARED, json.dumps({images.content: sorted({*done, *digests})}).encode())


def _compared(root: str) -> dict[str, Any]:
    storage = open_storage(root)
    return read_json(storage, COMPARED, dict[str, Any], "delete it") if storage.exists(COMPARED) else {}
