"""Exports what was retrieved as one folder for each class: `heron/1048577.jpg` and its caption, `heron/1048577.txt`.

    heron/                 the pairs of class `heron`, named by their pair_id
    crane (animals)/       a class whose name another task has too
    classes.json           each folder with its class, task and counts, also classes without a folder; written last

Class names come from users and may be no names of files, so each is cleaned, and two folders never have the same name,
not even on a disk that does not tell capitals from small letters.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from typing import Any

from react_ray.artifact import open_artifact
from react_ray.errors import ArtifactMissing
from react_ray.kinds import IMAGES, RETRIEVED
from react_ray.manifest import MANIFEST
from react_ray.pairs.image_kind import kind_of
from react_ray.pairs.retrieval import Place, Retrieval, RetrievedClass, class_labels, open_retrieval
from react_ray.progress import Progress
from react_ray.storage import Storage, join, open_empty, open_storage

CLASSES = "classes.json"
MOST_BYTES = 120  # of a folder's name, so that it and a number behind it fit any file system
NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')  # of some file system
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names of devices on Windows


def export_classes(uri: str, out: str) -> str:
    """uri: of `retrieved/`. Writes all images by class and returns a summary that counts what has no image.

    Raises ArtifactMissing if the pairs or their images are not there yet, ConfigError if `out` is not empty.
    """
    retrieved = open_artifact(uri, RETRIEVED)
    root, _, _ = retrieved.uri.rpartition("/")
    images = join(root, IMAGES.name)
    if not open_storage(images).exists(MANIFEST):
        raise ArtifactMissing(
            f"{images}: the images of the retrieved pairs are not there yet; run `react-ray download RECIPE` first"
        )
    retrieval = open_retrieval(root)
    return _write(retrieval, open_empty(out))


def folder_names(classes: list[RetrievedClass]) -> dict[int, str]:
    """class_id -> the name of its folder; all names differ, also without regard to capitals."""
    names: dict[int, str] = {}
    taken = {CLASSES}
    for class_id, label in sorted(class_labels(classes).items()):
        clean, number = _clean(label), 1
        name = clean
        while name.casefold() in taken:
            number += 1
            name = f"{clean} {number}"
        taken.add(name.casefold())
        names[class_id] = name
    return names


def _write(retrieval: Retrieval, storage: Storage) -> str:
    classes = retrieval.classes()
    folders = folder_names(classes)
    of_place: dict[Place, list[int]] = {}
    for one in classes:
        for place in retrieval.best(one.class_id, retrieval.num_pairs):
            of_place.setdefault(place, []).append(one.class_id)
    written: Counter[int] = Counter()
    missing: Counter[str] = Counter()
    parts = sorted({place.part for place in of_place})
    with Progress("export", len(parts), "pairs") as progress:
        for part in parts:
            here = [place for place in of_place if place.part == part]
            num_images = 0
            for place, pair in retrieval.read(here):
                if pair.image is None:
                    missing[pair.status] += 1
                    continue
                num_images += 1
                for class_id in of_place[place]:
                    path = f"{folders[class_id]}/{pair.pair_id}"
                    storage.write(f"{path}.{kind_of(pair.image) or 'bin'}", pair.image)
                    storage.write(f"{path}.txt", pair.caption.encode())
                    written[class_id] += 1
            progress.advance(rows=len(here), ok=num_images)
    listed = [_described(one, folders, written) for one in classes]
    storage.write(CLASSES, (json.dumps(listed, indent=1, ensure_ascii=False) + "\n").encode())
    of_no_class = retrieval.num_pairs - len(of_place)
    return _summary(storage.uri, written, missing, of_no_class, len(classes))


def _described(one: RetrievedClass, folders: dict[int, str], written: Counter[int]) -> dict[str, Any]:
    count = written[one.class_id]
    return {
        "folder": folders[one.class_id] if count else None,
        "class_name": one.class_name,
        "task": one.task,
        "pairs": one.pairs,
        "images": count,
    }


def _summary(uri: str, written: Counter[int], missing: Counter[str], of_no_class: int, num_classes: int) -> str:
    line = f"{uri}: {written.total():,} images in {len(written):,} folders of classes"
    if missing:
        reasons = ", ".join(f"{status} {count:,}" for status, count in missing.most_common())
        line += f"; {missing.total():,} pairs have no image ({reasons})"
    line += f"; {of_no_class:,} pairs are of no class" if of_no_class else ""
    without = num_classes - len(written)
    return line + (f"; {without:,} of {num_classes:,} classes have no image" if without else "")


def _clean(name: str) -> str:
    """The name as a folder may have it: one component of at most MOST_BYTES bytes, which no reader takes for hidden."""
    name = NOT_IN_NAMES.sub("_", unicodedata.normalize("NFC", name))
    name = "".join(c if c.isprintable() else "_" for c in name)
    name = name.encode(errors="replace")[:MOST_BYTES].decode(errors="ignore").lstrip("._ ").rstrip(". ")
    return f"class {name}".strip() if not name or RESERVED.fullmatch(name) else name
