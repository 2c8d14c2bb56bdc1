"""Looks for images that sets share, by their bytes: a weight that is chosen on test images shows no result."""

from __future__ import annotations

from collections.abc import Sequence

from react_ray.comparison.labelled_set import LabelledSet
from react_ray.errors import ConfigError
from react_ray.evals.copies import copies, digest_of
from react_ray.evals.labelled import read_slice
from react_ray.progress import say


def check_images(sets: Sequence[LabelledSet]) -> None:
    """Says how many images of a set are copies of one another, and how many of --validation are in another set.

    ConfigError for a set of --validation all of whose images are in another one. All files are read once.
    """
    digests = {one.name: _digests(one) for one in sets}
    for one in sets:
        for other in sets if one.validation else ():
            shared = digests[one.name] & digests[other.name]
            if other.validation or not shared:
                continue
            if shared == digests[one.name]:
                raise ConfigError(f"{one.option}: these are the images of {other.option}; choose the weight on others")
            say(f"compare    {one.option}: {len(shared):,} of its images are images of {other.option} too")


def _digests(one: LabelledSet) -> set[str]:
    found: list[str | None] = []
    labels: list[tuple[str, str]] = []
    for part in one.slices:
        table = read_slice(part, one.tasks)
        found += map(digest_of, table["image"].to_pylist())
        labels += zip(table["task"].to_pylist(), table["label"].to_pylist(), strict=True)
    if told := copies(found, labels)[1]:
        say(f"compare    {one.option}: {told}")
    return {digest for digest in found if digest is not None}
