"""Opens images with masks for segmentation: folders as those of VOC, ADE20K and COCO-Stuff.

The masks are PNG files whose pixels are numbers (grey or palette), in a folder `SegmentationClass` (VOC),
`annotations` (ADE20K, COCO-Stuff) or `masks`; images of the same names lie in another folder. What the numbers mean
follows from the layout, or is written in a classes.txt beside these folders (`12 dog` a line, or one name a line from
0). 255 means no class. Next: segmentation.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError, ReactRayError
from react_ray.evals.class_names import class_of, spellings
from react_ray.evals.set_digest import set_digest
from react_ray.pairs.formats.beside import read_all
from react_ray.pairs.formats.suffixes import is_image
from react_ray.pairs.image import decode_upright, read_header, upright_size
from react_ray.pairs.names_beside import NamesBeside, names_beside
from react_ray.storage import open_storage
from react_ray.uri import absolute

VOC, MASKS = "SegmentationClass", ("SegmentationClass", "annotations", "masks")
TRAIN_IDS = "_labelTrainIds"  # of COCO-Stuff's masks as mmsegmentation converts them: numbered from 0, without gaps
NO_CLASS = 255
NUMBER = re.compile(r"[0-9]{1,5}")  # of a class in masks of 8 or 16 bits
IGNORE = -1  # the position of a pixel that does not count
BACKGROUND = "background"
COLUMNS = pa.schema([("file", pa.string()), ("image", pa.binary()), ("mask", pa.binary())])


@dataclass(frozen=True)
class MaskSet:
    """images, masks: paths below `folder`, one of each for each row. position_of: what a number in a mask means, a
    class of the task or IGNORE."""

    folder: str
    images: tuple[str, ...]
    masks: tuple[str, ...]
    position_of: dict[int, int]
    digest: str

    def read(self, start: int, count: int) -> pa.Table:
        """Returns columns file (of the mask), image and mask (binary, null if it cannot be read)."""
        storage, some = open_storage(self.folder), slice(start, start + count)
        images, masks = read_all(storage, self.images[some]), read_all(storage, self.masks[some])
        return pa.table({"file": self.masks[some], "image": images, "mask": masks}, schema=COLUMNS)

    def labels(self, file: str, mask: bytes | None, image: bytes | None) -> np.ndarray:
        """Returns int64 [H, W], the position of each pixel's class or IGNORE.

        ConfigError, with the name of the file, for a mask that cannot be read, that is a picture in colours, that is
        of another size than its image, or that has a number which means no class.
        """
        where = f"{self.folder}/{file}"
        try:
            picture = read_header(mask or b"")
            value_HW = np.asarray(decode_upright(picture, picture.size))
        except ValueError as error:
            raise ConfigError(f"{where}: the mask cannot be read ({error}); write it again") from error
        if value_HW.ndim != 2 or picture.format != "PNG":
            raise ConfigError(
                f"{where}: the mask is a picture in colours ({picture.format}, {picture.mode}); write numbers of "
                "classes as a PNG of one channel"
            )
        size = _size(image)
        if size and size != picture.size:
            raise ConfigError(
                f"{where}: the mask is {picture.width} x {picture.height} pixels and its image {size[0]} x {size[1]}; "
                "write a mask of the size of the image"
            )
        values, place_N = np.unique(value_HW, return_inverse=True)
        if unknown := [int(value) for value in values if int(value) not in self.position_of]:
            raise ConfigError(
                f"{where}: the mask has the number {unknown[0]}, which means no class; correct it, or write lines such "
                f"as `{unknown[0]} name` into classes.txt in {self.folder}"
            )
        return np.array([self.position_of[int(value)] for value in values])[place_N].reshape(value_HW.shape)


def open_masks(source: str, whose: str, task: TargetTask) -> MaskSet:
    """Plans a set: `folder`, or `folder#split` where it has several splits. whose: the field that names it."""
    folder, split = divide(source)
    files = list(open_storage(folder).files()[0])
    masks = {path: parts for path in files if (parts := _parts_of(path)) and path.lower().endswith(".png")}
    if not masks:
        raise ConfigError(
            f"{whose}: {folder} has no PNG files in a folder {', '.join(MASKS)}; name the folder above it"
        )
    masks = _of_split(folder, files, masks, split, f"{whose}: {folder}")
    images: dict[str, list[str]] = {}
    for path in files:
        if path not in masks and _parts_of(path) is None and is_image(path):
            images.setdefault(path.rpartition("/")[2].rpartition(".")[0], []).append(path)
    rows = []
    for path, (_, below, stem) in sorted(masks.items()):
        found = images.get(stem, [])
        found = [one for one in found if f"/{one.rpartition('/')[0]}".endswith(f"/{below}")] if below else found
        if len(found) != 1:
            raise ConfigError(
                f"{whose}: the mask {path} in {folder} has {len(found) or 'no'} images of its name; put its image "
                "there, and nothing else of that name"
            )
        rows.append((found[0], path))
    position_of = _positions(masks, task, names_beside(folder), f"{whose}: {folder}")
    listed = pa.table({"task": [task.name], "label": [repr([rows, sorted(position_of.items())])]})
    pictures, paths = zip(*rows, strict=True)
    return MaskSet(folder, pictures, paths, position_of, set_digest(folder, listed))


def divide(source: str) -> tuple[str, str]:
    """Returns the folder of `folder#split` and the split, "" if none is named."""
    folder, _, split = source.rpartition("#") if "#" in source.rpartition("/")[2] else (source, "", "")
    return absolute(folder), split


def _parts_of(path: str) -> tuple[str, str, str] | None:
    """Returns the folder of masks that a path lies in, the folders below it, and the stem; None if it is no mask."""
    *folders, name = path.split("/")
    at = next((place for place, folder in enumerate(folders) if folder in MASKS), None)
    if at is None:
        return None
    return folders[at], "/".join(folders[at + 1 :]), name.rpartition(".")[0].removesuffix(TRAIN_IDS)


def _of_split(
    folder: str, files: Sequence[str], masks: dict[str, tuple[str, str, str]], split: str, where: str
) -> dict[str, tuple[str, str, str]]:
    """Returns the masks of a split: a folder below that of the masks, or a list of names as VOC has them."""
    lists = {
        path.rpartition("/")[2][:-4]: path for path in files if re.search(r"ImageSets/Segmentation/\w+\.txt$", path)
    }
    splits = sorted(lists or {below for _, below, _ in masks.values()})
    if not split and len(splits) == 1 and not lists:
        return masks
    if split not in splits:
        raise ConfigError(f"{where} has the splits {', '.join(splits)}; name one, such as {folder}#{splits[-1]}")
    if not lists:
        return {path: parts for path, parts in masks.items() if parts[1] == split}
    names = open_storage(folder).read(lists[split]).decode("utf-8", "replace").split()
    found = {path: parts for path, parts in masks.items() if parts[2] in set(names)}
    if len(found) != len(set(names)):
        missing = sorted(set(names) - {stem for _, _, stem in found.values()})
        raise ConfigError(
            f"{where}: {lists[split]} names {missing[0]}, which has no mask; put it there, or take it out"
        )
    return found


def _positions(
    masks: dict[str, tuple[str, str, str]], task: TargetTask, beside: NamesBeside, where: str
) -> dict[int, int]:
    """Returns what each number in the masks means: the position of a class, or IGNORE."""
    names, none = list(task.class_names), {NO_CLASS: IGNORE}
    if beside.lines:
        numbered = all(NUMBER.fullmatch(identifier) and some for identifier, some in beside.names_of.items())
        if numbered and len(beside.names_of) < len(beside.lines):
            raise ConfigError(f"{where}: two lines of {beside.uri} begin with the same number; correct one of them")
        lines = beside.names_of.items() if numbered else [(str(i), (line,)) for i, line in enumerate(beside.lines)]
        known, nothing = spellings(task), NamesBeside()
        meant = {
            int(number): next((c for name in some if (c := class_of(name, known, nothing))), None)
            for number, some in lines
        }
        if not any(meant.values()):
            raise ConfigError(f"{where}: no line of {beside.uri} names a class of task {task.name}; correct the names")
        return none | {number: IGNORE if name is None else names.index(name) for number, name in meant.items()}
    folders = {name for name, _, _ in masks.values()}
    if folders == {VOC}:
        first = int(names[0].casefold() != BACKGROUND)
    elif folders == {"annotations"}:
        first = int(not any(TRAIN_IDS in path for path in masks))
    else:
        raise ConfigError(
            f"{where}: nothing says what the numbers in its masks mean; write a classes.txt there with lines such as "
            f"`0 {names[0]}`"
        )
    return none | ({0: IGNORE} if first else {}) | {first + position: position for position in range(len(names))}


def _size(image: bytes | None) -> tuple[int, int] | None:
    """(width, height) of the upright image; None if it cannot be read, which counts as a wrong prediction."""
    try:
        return upright_size(read_header(image)) if image else None
    except (ReactRayError, ValueError):
        return None
