"""Finds the image files that a JSON of annotations names, wherever they lie below its folder.

Annotations name files as `000000391895.jpg`, or with a folder, and the images of a download lie in folders such as
`val2014/` or `flickr30k-images/`. A name means the one file below the folder whose path ends with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from react_ray.errors import ConfigError
from react_ray.pairs.formats.beside import path_below
from react_ray.storage import open_storage


def find_images(folder: str, names: Iterable[str], whose: str) -> list[str]:
    """Returns the path of each image below `folder`. whose: the field and the file that name them, for messages.

    ConfigError with the number of names whose file is not there, or for a name that means several files.
    """
    paths: dict[str, list[str]] = {}
    for path in open_storage(folder).files()[0]:
        paths.setdefault(path.rpartition("/")[2], []).append(path)
    found, missing = [], []
    for name in names:
        wanted = path_below(name)
        ends = [path for path in paths.get(wanted.rpartition("/")[2], []) if f"/{path}".endswith(f"/{wanted}")]
        if wanted in ends:
            ends = [wanted]
        if len(ends) > 1:
            raise ConfigError(f"{whose}: {name} may be {ends[0]} or {ends[1]} below {folder}; keep one of them there")
        found += ends
        missing += [] if ends else [name]
    if missing:
        raise ConfigError(
            f"{whose}: {len(missing):,} of {len(missing) + len(found):,} images do not lie below {folder}, such as "
            f"{missing[0]!r}; put the images beside the JSON, in a folder of any name"
        )
    return found
