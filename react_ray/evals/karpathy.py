"""Reads the captions of Flickr30k and COCO in the layout of Karpathy and Fei-Fei (CVPR 2015), `dataset_*.json`.

The JSON has `images`, each with `filename`, for COCO also `filepath`, `split`, and `sentences` with the text `raw`. The
images lie in the folder of the JSON or below it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.evals.named_images import find_images
from react_ray.metadata import parse_json, shaped
from react_ray.pairs.formats.beside import read_all
from react_ray.storage import open_storage, read_bytes
from react_ray.uri import absolute, join

TEST = "test"
SOURCE = re.compile(r"(?P<uri>.*\.json)(#(?P<split>[^/]*))?", re.IGNORECASE | re.DOTALL)
REMEDY = "name a dataset_*.json in Karpathy's layout"


@dataclass
class _Sentence:
    raw: str


@dataclass
class _Image:
    filename: str
    split: str
    sentences: list[_Sentence]
    filepath: str = ""


@dataclass
class _Dataset:
    images: list[_Image]


@dataclass(frozen=True)
class Karpathy:
    """One split. Its list is read anew in each process that needs it, since it may be larger than a part's images."""

    uri: str
    split: str
    whose: str  # the field of the recipe that names the set, for messages

    @property
    def folder(self) -> str:
        return self.uri.rpartition("/")[0] or "/"

    def paths(self) -> list[str]:
        """Returns the file of each image, below the folder."""
        return _captioned(self)[0]

    def captions(self) -> list[list[str]]:
        """Returns the captions of each image. ConfigError for an empty split, or for images that are not there."""
        return _captioned(self)[1]

    def read(self, start: int, count: int) -> pa.Table:
        """Returns some images of the split: columns image (binary, null if it cannot be read) and captions."""
        some = slice(start, start + count)
        paths, captions = _captioned(self)
        images = pa.array(read_all(open_storage(self.folder), paths[some]), pa.binary())
        return pa.table({"image": images, "captions": pa.array(captions[some], pa.list_(pa.string()))})


def open_karpathy(source: str, whose: str) -> Karpathy | None:
    """Returns the set if `source` is a JSON file or, with the name of a split behind it, `dataset_coco.json#val`.

    whose: the field of the recipe that names the set, for messages.
    """
    found = SOURCE.fullmatch(source)
    return Karpathy(absolute(found["uri"]), found["split"] or TEST, whose) if found else None


def files_of(source: str) -> str:
    """Returns the place of all files of a set: the folder of a JSON file, and of other sets what `source` names."""
    found = SOURCE.fullmatch(source)
    return absolute(found["uri"]).rpartition("/")[0] or "/" if found else source


@lru_cache(maxsize=1)
def _captioned(of: Karpathy) -> tuple[list[str], list[list[str]]]:
    """Returns the path of each image of the split below the folder of the JSON, and its captions."""
    where = f"{of.whose}: {of.uri}"
    dataset = shaped(parse_json(read_bytes(of.uri), where, REMEDY, ConfigError), _Dataset, where, REMEDY, ConfigError)
    images = [image for image in dataset.images if image.split == of.split]
    if not images:
        splits = ", ".join(f"{name} ({num:,})" for name, num in Counter(i.split for i in dataset.images).items())
        raise ConfigError(
            f"{where} has no images of the split {of.split!r}, but of {splits or 'none'}; name a split behind the "
            f"file, such as {of.uri.rpartition('/')[2]}#val"
        )
    names = [join(image.filepath, image.filename) if image.filepath else image.filename for image in images]
    return find_images(of.folder, names, where), [[s.raw for s in image.sentences] for image in images]
