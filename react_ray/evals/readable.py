"""Decides whether a set of which some images cannot be read may still be scored."""

from __future__ import annotations

from react_ray.errors import ConfigError
from react_ray.progress import say


def check_share(failed: int, num_images: int, whose: str, most: float) -> None:
    """Says how many images cannot be read and count as wrong. ConfigError above the share `most`.

    whose: the field of the recipe that names the set, or the option where there is no recipe.
    """
    how = "--allow-missing" + (" or evaluate.max_unreadable" if whose.startswith("evaluate.") else "")
    told = f"{whose}: {failed:,} of {num_images:,} images cannot be decoded"
    if failed > most * num_images:
        raise ConfigError(f"{told}, and would count as wrong; mend the set, or allow it with {how}")
    if failed:
        say(f"{told} and count as wrong")
