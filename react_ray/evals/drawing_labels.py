"""Labels the drawings of the sample by their names: what a 1-nearest neighbour can do that is given labels.

The baseline sees labels that REACT never sees: the label of a drawing comes from its name (`key`: "top-hat",
"flag-for-ghana"). A model that does not come near its accuracy has learned little about how things look.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.pixels import Neighbours, shrink
from react_ray.storage import absolute, join, open_parquet

TRAINING = ("base", "pool")
FLAGS = "flags"


def labelled_drawings(folder: str, tasks: Sequence[TargetTask], num_threads: int = 1) -> Neighbours:
    """Returns the drawings of `base.parquet` and `pool.parquet` in `folder` whose names are classes of the tasks.

    Raises ConfigError for a task of which no drawing is named like a class.
    """
    folder, names = absolute(folder), Labels({task.name: list(task.class_names) for task in tasks})
    pictures, labels = [], []
    for part in TRAINING:
        file = open_parquet(join(folder, f"{part}.parquet"))
        table = file.read(["image", "key", "caption"])
        texts = [one if isinstance(one, str) else " | ".join(one) for one in table["caption"].to_pylist()]
        found = names.of(table["key"].to_pylist(), texts)
        rows = [row for row, label in enumerate(found) if label is not None]
        small_ND, good_N = shrink(table["image"].take(pa.array(rows, pa.int64())).to_pylist(), num_threads)
        pictures.append(small_ND[good_N])
        labels += [label for row, good in zip(rows, good_N, strict=True) if good and (label := found[row])]
    for task in tasks:
        if task.name not in {name for name, _ in labels}:
            raise ConfigError(
                f"evaluate.pixel_knn={folder}: no row of {', '.join(TRAINING)} is named like a class of {task.name}; "
                "leave evaluate.pixel_knn empty"
            )
    return Neighbours(np.concatenate(pictures), labels)


class Labels:
    """Finds the (task, class) of a drawing by its name."""

    def __init__(self, tasks: dict[str, list[str]]) -> None:
        self.by_slug = {slug(name): (task, name) for task, names in tasks.items() for name in names}
        self.countries = sorted(tasks.get(FLAGS, []), key=len, reverse=True)

    def of(self, keys: list[str], captions: list[str]) -> list[tuple[str, str] | None]:
        codes = self._country_codes(keys, captions)
        return [self._one(key, caption, codes) for key, caption in zip(keys, captions, strict=True)]

    def _one(self, key: str, caption: str, codes: dict[str, str]) -> tuple[str, str] | None:
        about_flags = "flag" in key or "flag" in caption.lower()
        if key in codes and about_flags:
            return FLAGS, codes[key]
        label = self.by_slug.get(re.sub(r"^flag-(for-)?", "", key) if about_flags else key)
        if label is None or (label[0] == FLAGS and not about_flags):  # the outline of a country is no flag
            return None
        return label

    def _country_codes(self, keys: list[str], captions: list[str]) -> dict[str, str]:
        """Maps two-letter names of flags ("gh") to the country that most of their captions name."""
        votes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for key, caption in zip(keys, captions, strict=True):
            if re.fullmatch("[a-z]{2}", key):
                for country in self.countries:
                    if country in caption:
                        votes[key][country] += 1
                        break
        return {key: max(sorted(names), key=lambda name: names[name]) for key, names in votes.items()}


def slug(name: str) -> str:
    """Turns "Côte d’Ivoire" into "cote-divoire", and "Antigua & Barbuda" into "antigua-and-barbuda"."""
    plain = unicodedata.normalize("NFKD", re.sub("[.’']", "", name.replace("&", " and ")))
    return re.sub("[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode().lower()).strip("-")
