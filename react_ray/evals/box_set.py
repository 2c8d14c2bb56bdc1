"""Opens images with boxes for detection: the JSON of COCO and LVIS, and proposals as COCO's JSON of results.

The images lie below the folder of the JSON, or below the one above it if that is called `annotations`. Only boxes whose
category is a class of the task count. Next: detection.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.class_names import class_of, spellings
from react_ray.evals.named_images import find_images
from react_ray.evals.set_digest import set_digest
from react_ray.metadata import parse_json, shaped
from react_ray.pairs.formats.beside import read_all
from react_ray.pairs.names_beside import NamesBeside
from react_ray.progress import say
from react_ray.storage import open_storage, read_bytes
from react_ray.uri import absolute

OF_COCO, OF_PROPOSALS = "name a JSON as COCO's or LVIS's instances", "name a JSON of results as COCO's"
BOXES = pa.list_(pa.list_(pa.float64()))
COLUMNS = pa.schema(
    [
        *(("image_id", pa.int64()), ("file", pa.string()), ("image", pa.binary())),
        *(("width", pa.int32()), ("height", pa.int32()), ("boxes", BOXES), ("objectness", pa.list_(pa.float64()))),
    ]
)


@dataclass
class _Image:
    id: int
    width: int
    height: int
    file_name: str = ""
    coco_url: str = ""  # of LVIS, instead of file_name
    neg_category_ids: list[int] = field(default_factory=list)
    not_exhaustive_category_ids: list[int] = field(default_factory=list)

    @property
    def file(self) -> str:
        return self.file_name or "/".join(self.coco_url.split("/")[-2:])


@dataclass
class _Box:
    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float = 0.0
    iscrowd: int = 0


@dataclass
class _Category:
    id: int
    name: str
    frequency: str = ""


@dataclass
class _Instances:
    images: list[_Image]
    annotations: list[_Box]
    categories: list[_Category]


@dataclass
class _Proposal:
    image_id: int
    bbox: list[float]
    score: float = 1.0


class _Row(NamedTuple):
    image: _Image
    path: str
    boxes: np.ndarray  # float64 [n, 4]: left, top, width, height, within the image
    objectness: np.ndarray  # float64 [n]


@dataclass(frozen=True)
class BoxSet:
    """The boxes are read anew in each process that needs them, since proposals may be larger than a part's images."""

    uri: str
    proposals: str  # URI, "" = the boxes of the set itself
    task: TargetTask
    whose: str

    @property
    def folder(self) -> str:
        return images_below(self.uri)

    @property
    def num_images(self) -> int:
        return len(_opened(self).rows)

    @property
    def category_of(self) -> dict[int, int]:
        """The category of each position in the class list that has one."""
        return _opened(self).category_of

    @property
    def truth(self) -> dict[str, Any]:
        """The JSON with the boxes that count, as evaluators of COCO take it."""
        return _opened(self).truth

    @property
    def is_lvis(self) -> bool:
        """True if not all objects of an image are labelled, so that LVIS's rules apply."""
        return any(image["neg_category_ids"] for image in self.truth["images"])

    def digest(self) -> str:
        listed = [str(_opened(self).truth), repr([row.boxes.tolist() for row in _opened(self).rows])]
        return set_digest(self.folder, pa.table({"task": [""], "label": [repr(listed)]}))

    def read(self, start: int, count: int) -> pa.Table:
        """Returns COLUMNS of some images. image: null if it cannot be read. boxes: as in _Row."""
        rows = _opened(self).rows[start : start + count]
        columns = {
            "image_id": [row.image.id for row in rows],
            "file": [row.path for row in rows],
            "image": read_all(open_storage(self.folder), [row.path for row in rows]),
            "width": [row.image.width for row in rows],
            "height": [row.image.height for row in rows],
            "boxes": [row.boxes.tolist() for row in rows],
            "objectness": [row.objectness.tolist() for row in rows],
        }
        return pa.table(columns, schema=COLUMNS)


def open_boxes(source: str, whose: str, task: TargetTask, proposals: str = "") -> BoxSet:
    """Plans a set. whose: the field of the recipe that names it, for messages.

    ConfigError for categories of which none is a class of the task, for images that are not there, and for a box or a
    proposal that lies outside of its image. Boxes that lie partly outside are cut at its edges, and counted.
    """
    found = BoxSet(absolute(source), absolute(proposals) if proposals else "", task, whose)
    for line in _opened(found).told:
        say(line)
    return found


def images_below(uri: str) -> str:
    """Returns the folder below which the images of a JSON lie."""
    above = absolute(uri).rpartition("/")[0]
    return (above.rpartition("/")[0] if above.endswith("/annotations") else above) or "/"


class _Opened(NamedTuple):
    rows: list[_Row]
    category_of: dict[int, int]
    truth: dict[str, Any]
    told: list[str]


@lru_cache(maxsize=2)
def _opened(of: BoxSet) -> _Opened:
    where = f"{of.whose}: {of.uri}"
    value = parse_json(read_bytes(of.uri), where, OF_COCO, ConfigError)
    instances = shaped(value, _Instances, where, OF_COCO, ConfigError)
    category_of, told = _categories(instances, of.task, where)
    known = set(category_of.values())
    boxes = [box for box in instances.annotations if box.category_id in known]
    images = {image.id: image for image in instances.images}
    if not any(not box.iscrowd for box in boxes):
        raise ConfigError(f"{where} has no boxes of the classes of task {of.task.name}; name another set or task")
    wanted: list[Any] = [box for box in boxes if not box.iscrowd]
    of_truth, num_cut = _by_image(wanted, images, where)
    if of.proposals:
        where = f"{of.whose}: {of.proposals}"
        value = parse_json(read_bytes(of.proposals), where, OF_PROPOSALS, ConfigError)
        wanted = list(shaped(value, list[_Proposal], where, OF_PROPOSALS, ConfigError))
        of_truth, num_cut = _by_image(wanted, images, where)
    if num_cut:
        told.append(f"{where}: {num_cut:,} of {len(wanted):,} boxes are cut at the edges of their images")
    paths = find_images(of.folder, [image.file for image in instances.images], of.whose)
    nothing = (np.empty((0, 4)), np.empty(0))
    rows = [
        _Row(image, path, *of_truth.get(image.id, nothing)) for image, path in zip(instances.images, paths, strict=True)
    ]
    truth = {
        "images": [asdict(image) for image in instances.images],
        "annotations": [asdict(box) | {"area": box.area or box.bbox[2] * box.bbox[3]} for box in boxes],
        "categories": [asdict(one) for one in instances.categories if one.id in known],
    }
    return _Opened(rows, category_of, truth, told)


def _categories(instances: _Instances, task: TargetTask, where: str) -> tuple[dict[int, int], list[str]]:
    """Returns the category of each position in the class list that has one, and what to say of the others."""
    known, names, nothing = spellings(task), list(task.class_names), NamesBeside()
    category_of: dict[int, int] = {}
    others: list[str] = []
    for category in instances.categories:
        name = class_of(category.name, known, nothing)
        if name is None:
            others.append(category.name)
        elif names.index(name) in category_of:
            raise ConfigError(f"{where}: two categories mean the class {name}; leave one of them out")
        else:
            category_of[names.index(name)] = category.id
    if not category_of:
        raise ConfigError(
            f"{where}: none of its {len(others)} categories ({', '.join(others[:5])}, ...) is a class of task "
            f"{task.name}; correct the names, or add the classes to the task"
        )
    told = f"{where}: {len(others)} of {len(instances.categories)} categories are no class of task {task.name}"
    return category_of, [f"{told}, and their boxes are left out: {', '.join(others[:5])}"] if others else []


def _by_image(
    boxes: Sequence[_Box | _Proposal], images: dict[int, _Image], where: str
) -> tuple[dict[int, tuple[np.ndarray, np.ndarray]], int]:
    """Returns the boxes of each image within its edges, with their scores, and how many were cut by over a pixel."""
    found: dict[int, tuple[list[np.ndarray], list[float]]] = {}
    num_cut = 0
    for number, box in enumerate(boxes):
        image = images.get(box.image_id)
        what = f"box {box.id}" if isinstance(box, _Box) else f"proposal {number + 1}"
        if image is None:
            raise ConfigError(f"{where}: {what} is of image {box.image_id}, which is not listed; correct the JSON")
        corners = np.array([box.bbox[0], box.bbox[1], box.bbox[0] + box.bbox[2], box.bbox[1] + box.bbox[3]])
        inside = np.clip(corners, 0, [image.width, image.height] * 2)
        size = inside[2:] - inside[:2]
        if len(box.bbox) != 4 or not np.isfinite(corners).all() or not (size > 0).all():
            raise ConfigError(
                f"{where}: {what} of {image.file}, {box.bbox}, has no area within its {image.width} x {image.height} "
                "pixels; correct it, or leave it out"
            )
        num_cut += bool(np.abs(inside - corners).max() > 1)
        some, scores = found.setdefault(image.id, ([], []))
        some.append(np.concatenate([inside[:2], size]))
        scores.append(box.score if isinstance(box, _Proposal) else 1.0)
    return {image: (np.array(some), np.array(scores)) for image, (some, scores) in found.items()}, num_cut
