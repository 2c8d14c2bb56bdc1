"""Opens images with boxes for detection: the JSON of COCO and LVIS, and proposals as COCO's JSON of results.

The images lie below the folder of the JSON, or below the one above it if that is called `annotations`. Only boxes whose
category is a class of the task count. Next: detection.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, NoReturn, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import Field

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
FREQUENCIES = ("r", "c", "f")  # of LVIS's categories
BOXES = pa.list_(pa.list_(pa.float64()))
COLUMNS = pa.schema(
    [
        *(("image_id", pa.int64()), ("file", pa.string()), ("image", pa.binary())),
        *(("width", pa.int32()), ("height", pa.int32()), ("boxes", BOXES), ("objectness", pa.list_(pa.float64()))),
    ]
)


Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Side = Annotated[int, Field(ge=1, lt=2**31)]  # pixels
Bbox = Annotated[list[Annotated[float, Field(ge=-(2.0**40), le=2.0**40)]], Field(min_length=4, max_length=4)]


@dataclass
class _Image:
    id: Id
    width: Side
    height: Side
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
    image_id: Id
    category_id: Id
    bbox: Bbox
    iscrowd: int = 0


@dataclass
class _Category:
    id: Id
    name: str
    frequency: str = ""


@dataclass
class _Instances:
    images: list[_Image]
    annotations: list[_Box]
    categories: list[_Category]


@dataclass
class _Proposal:
    image_id: Id
    bbox: Bbox
    score: Annotated[float, Field(ge=0, le=1)] = 1.0


T = TypeVar("T", _Image, _Category)


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
        return _opened(self).is_lvis

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

    ConfigError for categories of which none is a class of the task, for two images or categories of one id, for images
    that are not there, and for a box or a proposal that lies outside of its image. Boxes that lie partly outside are
    cut at its edges, also those that count as true, and counted; so are images that are listed several times.
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
    is_lvis: bool
    told: list[str]


@lru_cache(maxsize=2)
def _opened(of: BoxSet) -> _Opened:
    where = f"{of.whose}: {of.uri}"
    value = parse_json(read_bytes(of.uri), where, OF_COCO, ConfigError)
    instances = shaped(value, _Instances, where, OF_COCO, ConfigError)
    images = _by_id(instances.images, "images", where)
    category_of, told = _categories(instances, of.task, where)
    known = set(category_of.values())
    boxes: Sequence[_Box] = [box for box in instances.annotations if box.category_id in known]
    inside_N4, is_cut_N = _within(boxes, images, where)
    truth = [
        vars(box) | {"id": number, "bbox": inside.tolist() if is_cut else box.bbox, "area": inside[2] * inside[3]}
        for number, (box, inside, is_cut) in enumerate(zip(boxes, inside_N4, is_cut_N, strict=True), 1)
    ]
    if all(box.iscrowd for box in boxes):
        raise ConfigError(f"{where} has no boxes of the classes of task {of.task.name}; name another set or task")
    told += _cut(is_cut_N, where)
    classified: Sequence[_Box | _Proposal] = boxes
    if of.proposals:
        where = f"{of.whose}: {of.proposals}"
        value = parse_json(read_bytes(of.proposals), where, OF_PROPOSALS, ConfigError)
        classified = shaped(value, list[_Proposal], where, OF_PROPOSALS, ConfigError)
        inside_N4, is_cut_N = _within(classified, images, where)
        told += _cut(is_cut_N, where)
    of_image: dict[int, list[tuple[np.ndarray, float]]] = {image: [] for image in images}
    for box, inside in zip(classified, inside_N4, strict=True):
        if isinstance(box, _Proposal) or not box.iscrowd:
            of_image[box.image_id].append((inside, box.score if isinstance(box, _Proposal) else 1.0))
    paths = find_images(of.folder, [image.file for image in instances.images], of.whose)
    if twice := len(paths) - len(set(paths)):
        told.append(f"{of.whose}: {twice:,} of {len(paths):,} images are listed before; they count as often")
    rows = [
        _Row(
            image,
            path,
            np.array([inside for inside, _ in of_image[image.id]]).reshape(-1, 4),
            np.array([score for _, score in of_image[image.id]]),
        )
        for image, path in zip(instances.images, paths, strict=True)
    ]
    categories = [vars(one) for one in instances.categories if one.id in known]
    is_lvis = any(image.neg_category_ids for image in instances.images)
    odd = next((one for one in categories if one["frequency"] not in FREQUENCIES), None)
    if is_lvis and odd:
        raise ConfigError(
            f"{where}: the frequency of the category {odd['name']} is {odd['frequency']!r}, which LVIS gives as r, c "
            "or f; correct it"
        )
    listed = {"images": [vars(image) for image in instances.images], "annotations": truth, "categories": categories}
    return _Opened(rows, category_of, listed, is_lvis, told)


def _by_id(some: Sequence[T], what: str, where: str) -> dict[int, T]:
    found = {one.id: one for one in some}
    if len(found) < len(some):
        number = next(id for id, count in Counter(one.id for one in some).items() if count > 1)
        raise ConfigError(f"{where}: several {what} have the id {number}; give each its own")
    return found


def _categories(instances: _Instances, task: TargetTask, where: str) -> tuple[dict[int, int], list[str]]:
    """Returns the category of each position in the class list that has one, and what to say of the others."""
    known, names, nothing = spellings(task), list(task.class_names), NamesBeside()
    _by_id(instances.categories, "categories", where)
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


def _within(boxes: Sequence[_Box | _Proposal], images: dict[int, _Image], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns float64 [N, 4], the boxes within the edges of their images, and bool [N]: those cut by over a pixel."""

    def refuse(row: int, problem: str) -> NoReturn:
        box = boxes[row]
        what = f"box {box.id}" if isinstance(box, _Box) else f"proposal {row + 1}"
        raise ConfigError(f"{where}: {what} {problem}")

    for row, box in enumerate(boxes):
        if box.image_id not in images:
            refuse(row, f"is of image {box.image_id}, which is not listed; correct the JSON")
    size_N2 = np.array([(images[box.image_id].width, images[box.image_id].height) for box in boxes]).reshape(-1, 2)
    given_N4 = np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4)
    corner_N4 = np.concatenate([given_N4[:, :2], given_N4[:, :2] + given_N4[:, 2:]], axis=1)
    inside_N4 = np.clip(corner_N4, 0, np.tile(size_N2, 2))
    is_cut_N = (np.abs(inside_N4 - corner_N4) > 1).any(axis=1)
    inside_N4[:, 2:] -= inside_N4[:, :2]
    for row in np.flatnonzero((inside_N4[:, 2:] <= 0).any(axis=1)).tolist():
        image = images[boxes[row].image_id]
        refuse(
            row,
            f"of {image.file}, {boxes[row].bbox}, has no area within its {image.width} x {image.height} pixels; "
            "correct it, or leave it out",
        )
    return inside_N4, is_cut_N


def _cut(is_cut_N: np.ndarray, where: str) -> list[str]:
    num, total = int(is_cut_N.sum()), len(is_cut_N)
    return [f"{where}: {num:,} of {total:,} boxes are cut at the edges of their images"] if num else []
