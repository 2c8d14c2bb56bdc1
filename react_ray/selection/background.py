"""The background of random queries: how near the best pair is to a query that asks for nothing in particular.

A cosine of 0.95 means nothing by itself: it depends on the model, on the templates, and on the number of pairs, of
which the nearest is taken. So the templates of each class are also filled with random names, two words of two captions,
and the best hits of these queries say what a query gets that has nothing to do with the database. A class's z-score is
the distance of its best hit from their mean, in their standard deviations.

Next: match_quality.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from react_ray.selection.name_match import split

MOST_NAMES, FEWEST_NAMES = 100, 16  # of one set of templates: 100 give the mean to a tenth of a standard deviation
FEWEST_WORDS = 20  # distinct words of captions, below which names would repeat
FREE_PROMPTS, SHARE_OF_PROMPTS = 2000, 4  # all random prompts together: 2,000, or a quarter of the classes' own
RANDOM_K = 32  # hits of a random query: only the best counts, and an approximate search finds it among so many


@dataclass(frozen=True)
class Background:
    """The best hits of random queries: `best` float32 [B], one for each random name of a set of templates."""

    best: np.ndarray

    def z(self, score: float) -> float | None:
        """Returns None where the background says nothing: too few random names found a pair, or all the same one."""
        found = self.best[np.isfinite(self.best)].astype(np.float64)
        if len(found) < FEWEST_NAMES or found.std() < 1e-6:
            return None
        return float((score - found.mean()) / found.std())


def num_names(templates: Sequence[Sequence[str]], num_prompts: int) -> int:
    """Returns how many random names each set of templates gets, so that they cost a fraction of the classes' prompts.

    templates: each distinct set once. num_prompts: of all classes.
    """
    budget = max(FREE_PROMPTS, num_prompts // SHARE_OF_PROMPTS)
    return int(np.clip(budget // max(1, sum(map(len, templates))), FEWEST_NAMES, MOST_NAMES))


def random_names(captions: Iterable[str | None], class_names: Iterable[str], count: int, seed: int) -> list[str]:
    """Returns `count` names of two words from two captions; none of the words is in the name of a class.

    Returns [] if the captions have too few words.
    """
    taken = {word for name in class_names for word in split(name)}
    words = [[w for w in split(caption or "") if w.isalpha() and w not in taken] for caption in captions]
    words = [found for found in words if found]
    if len({word for found in words for word in found}) < FEWEST_WORDS:
        return []
    generator = np.random.default_rng(seed)

    def word() -> str:
        caption = words[int(generator.integers(len(words)))]
        return caption[int(generator.integers(len(caption)))]

    names: dict[str, None] = {}  # distinct, in the order of the draw
    for _ in range(20 * count):
        pair = (word(), word())
        if pair[0] != pair[1]:
            names[" ".join(pair)] = None
        if len(names) == count:
            break
    return list(names)
