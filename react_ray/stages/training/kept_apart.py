"""Keeps labelled images that train and evaluation sets apart, by the sha256 of the encoded images.

`customize` leaves out what is in a set of the recipe (labelled_pairs.py); `evaluate` refuses a set that was added since
and has an image on which a model was trained. Which sets were compared lies beside the labelled images, so that each is
read for this once.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from react_ray.artifact import open_artifact
from react_ray.errors import ConfigError
from react_ray.evals.labelled import IMAGES_PER_PART
from react_ray.evals.set_files import open_files
from react_ray.kinds import IMAGES
from react_ray.manifest import MANIFEST
from react_ray.metadata import read_json
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.storage import join, open_storage

COMPARED = "compared.json"  # content of the labelled images -> the digests of the sets that have none of them


def evaluated(sets: dict[str, str]) -> dict[str, str]:
    """{sha256 of an image: the name of the evaluation set that has it}"""
    found: dict[str, str] = {}
    for name, uri in sets.items():
        files = open_files(uri, f"evaluate.datasets.{name}", needs_labels=False)
        with Progress(f"compare {name}", files.num_rows, "images", unit="images") as progress:
            for start in range(0, files.num_rows, IMAGES_PER_PART):
                images = [cell.data for cell in files.images(start, IMAGES_PER_PART)]
                found |= {hashlib.sha256(data).hexdigest(): name for data in images if data}
                progress.advance(rows=len(images), done=len(images))
    return found


def check_kept_apart(recipe: Recipe, digests: dict[str, str]) -> None:
    """ConfigError for an evaluation set with an image that is among the labelled images of an arm.

    digests: of each set of evaluate.datasets (set_digest.py).
    """
    trained = [arm for arm in recipe.arm_names() if recipe.arm(arm).customize.labelled]
    for root, arm in {Layout(recipe, arm).labelled_root(): arm for arm in trained}.items():
        if not open_storage(join(root, "images")).exists(MANIFEST):
            continue
        images = open_artifact(join(root, "images"), IMAGES)
        storage, done = open_storage(root), _compared(root).get(images.content, [])
        known = evaluated({name: recipe.evaluate.datasets[name] for name in digests if digests[name] not in done})
        hashes = (one for table in images.tables(["sha256"]) for one in table["sha256"].to_pylist())
        both = [known[one] for one in hashes if one in known]
        if both:
            raise ConfigError(
                f"evaluate.datasets.{both[0]}: {both.count(both[0])} of its images are among the labelled images on "
                f"which {arm or 'the model'} was trained ({root}), so its score would flatter; leave the set out, or "
                "delete what was trained on them and run the same command again"
            )
        if known:
            storage.write(COMPARED, json.dumps({images.content: sorted({*done, *digests.values()})}).encode())


def _compared(root: str) -> dict[str, Any]:
    storage = open_storage(root)
    return read_json(storage, COMPARED, dict[str, Any], "delete it") if storage.exists(COMPARED) else {}
