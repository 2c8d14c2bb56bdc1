"""Door: sets to score on, valid, hostile and damaged, in every layout that an evaluation reads.

A set is refused in one line, or gives as many rows as it has images: none is left out uncounted, each label is a class,
and each box and mask fits its image. Rows do not depend on the number that is read at once.
"""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from react_ray.clip.prompts import TargetTask
from react_ray.evals.box_set import open_boxes
from react_ray.evals.captioned import check_captioned, open_captioned
from react_ray.evals.labelled import check_set, class_ids, read_slice, slices_of
from react_ray.evals.mask_set import IGNORE, open_masks
from tests.campaign import hostile
from tests.campaign.case import Case, Wrong, check, must_work
from tests.campaign.damage import damaged

NAMES = ("heron", "barn owl", "café", "BMW 3 Series")
BIRDS = TargetTask("birds", NAMES, ("a {}.",), tuple((name,) for name in NAMES))
WIDTH, HEIGHT = 12, 8
NUM = 9  # images
MOST_LEFT_OUT = 0.05  # of images in folders of no class, which are said
Make = Callable[[Path, random.Random, bool], Any]


def run(case: Case) -> str:
    rng = case.rng()
    kind = rng.choices(("valid", "hostile", "bytes"), (2, 5, 4))[0]
    name, (make, read) = rng.choice(list(LAYOUTS.items()))
    folder = case.folder / "set"
    folder.mkdir()
    how = make(folder, rng, kind == "hostile")
    if kind == "bytes":
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = rng.choice(files)
        data, what = damaged(path.read_bytes(), rng, rng.choice(files).read_bytes())
        path.write_bytes(data)
        how = f"{path.name} with {what}"
    try:
        if kind == "valid":
            with must_work(name):
                num = read(folder)
            check(num == NUM, f"{num} of {NUM} images")
        else:
            num = read(folder)
    except Wrong as error:
        raise Wrong(f"{error}  [{name}: {how}]") from error
    return f"{name}: {how}; {num} images"


def _picture(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), tuple(rng.randrange(256) for _ in range(3))).save(buffer, "PNG")
    return buffer.getvalue()


def _folders(folder: Path, rng: random.Random, is_hostile: bool) -> str:
    spelled = ("heron", "Barn_Owl", normalize("NFD", "café"), "004.BMW_3_Series")
    for number in range(NUM):
        place = folder / spelled[number % len(spelled)]
        place.mkdir(exist_ok=True)
        (place / f"{number}.png").write_bytes(_picture(rng))
    if not is_hostile:
        return "class folders"
    odd = os.fsencode(folder) + b"/" + rng.choice((b"heron\n<b>", b"\xff\xfe", b"9" * 250, b"h\xd0\xb5ron", b".", b"x"))
    os.makedirs(odd, exist_ok=True)
    how = rng.choice(("an image of no class", "a pipe", "a link to itself", "an empty folder", "a broken link"))
    if how == "an image of no class":
        Path(os.fsdecode(odd), "0.png").write_bytes(_picture(rng))
    elif how == "a pipe":
        os.mkfifo(os.fsdecode(odd) + "/0.png")
    elif how != "an empty folder":
        os.symlink(folder if how == "a link to itself" else "/nowhere", os.fsdecode(odd) + "/link")
    return f"{how} in {odd[len(os.fsencode(folder)) :]!r}"


def _labels(folder: Path, rng: random.Random, is_hostile: bool) -> str:
    label: Any = [NAMES[number % len(NAMES)] for number in range(NUM)]
    columns: dict[str, Any] = {"image": [_picture(rng) for _ in range(NUM)], "label": label}
    how = "labels"
    if is_hostile:
        how, change = rng.choice(list(ODD_COLUMNS.items()))
        columns |= change
    pq.write_table(pa.table(columns), folder / "set.parquet")
    return how


ODD_COLUMNS: dict[str, dict[str, Any]] = {
    "one odd text": {"label": ["heron"] * 8 + ["he\nron<b>"]},
    "endless digits": {"label": ["9" * 5000] * NUM},
    "negative": {"label": [-1] * NUM},
    "out of range": {"label": range(NUM)},
    "beyond 64 bits": {"label": pa.array([2**64 - 1] * NUM, pa.uint64())},
    "not a number": {"label": [float("nan")] * NUM},
    "infinite": {"label": [0.0] * 8 + [float("inf")]},
    "halves": {"label": [0.5] * NUM},
    "null": {"label": ["heron"] * 8 + [None]},
    "nothing": {"label": pa.nulls(NUM)},
    "booleans": {"label": [True] * NUM},
    "bytes": {"label": [b"heron"] * NUM},
    "structs": {"label": [{"name": "heron"}] * NUM},
    "lists": {"label": [["heron", "barn owl"]] * 8 + [[]]},
    "lists of lists": {"label": [[["heron"]]] * NUM},
    "lists with null": {"label": [["heron", None]] * NUM},
    "dictionary": {"label": pa.array(["heron"] * NUM).dictionary_encode()},
    "tasks of integers": {"task": [1] * NUM},
    "tasks of lists": {"task": [["birds"]] * NUM},
    "no task": {"task": ["birds"] * 8 + [None]},
    "another task": {"task": ["birds"] * 8 + ["x"]},
    "no images": {"image": pa.nulls(NUM, pa.binary())},
    "images of text": {"image": ["a.png"] * NUM},
    "images of no image": {"image": [b"\x89PNG"] * NUM},
}


def _read_labelled(folder: Path) -> int:
    uri = str(folder / "set.parquet") if (folder / "set.parquet").exists() else str(folder)
    check_set("test", uri, [BIRDS])
    slices = slices_of("test", uri, [BIRDS])
    tables = [read_slice(one, [BIRDS]) for one in slices]
    labels = [label for table in tables for label in table["label"].to_pylist()]
    check(set(labels) <= set(NAMES), f"a label is no class: {set(labels) - set(NAMES)}")
    files, ids = class_ids(uri, [BIRDS])
    check(ids.num_rows == files.num_rows == slices[0].files.num_rows, "rows differ from labelled images")
    check(len(labels) == len(ids) - ids["class_id"].null_count, "evaluation and training see other rows")
    return len(labels)


def _captions(folder: Path, rng: random.Random, is_hostile: bool) -> str:
    images = [
        {"filename": f"{i}.png", "split": "test", "sentences": [{"raw": f"caption {i}"}, {"raw": "x"}]}
        for i in range(NUM)
    ]
    return _write_json(folder, "dataset_x.json", {"images": images}, rng, is_hostile)


def _read_captions(folder: Path) -> int:
    uri = str(folder / "dataset_x.json")
    check_captioned(uri, "evaluate.captions.test")
    found = open_captioned(uri, "evaluate.captions.test")
    captions = found.read(0, NUM)["captions"].to_pylist()
    again = [text for row in range(found.num_images) for text in found.read(row, 1)["captions"].to_pylist()]
    check(captions == again, "rows depend on the number that is read at once")
    check(all(texts and all(text.strip() for text in texts) for texts in captions), "an image without captions")
    return len(captions)


def _boxes(folder: Path, rng: random.Random, is_hostile: bool) -> str:
    images = [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(NUM)]
    boxes = [
        {"id": i, "image_id": i, "category_id": i % 2, "bbox": [1.5, 1, 3, 4 + i / 4], "area": 9, "iscrowd": 0}
        for i in range(NUM)
    ]
    categories = [{"id": i, "name": NAMES[i], "frequency": "f"} for i in range(2)]
    value = {"images": images, "annotations": boxes, "categories": categories}
    return _write_json(folder, "boxes.json", value, rng, is_hostile)


def _read_boxes(folder: Path) -> int:
    found = open_boxes(str(folder / "boxes.json"), "evaluate.detection.birds", BIRDS)
    found.digest()
    rows = found.read(0, found.num_images).to_pylist()
    check(rows == [row for at in range(len(rows)) for row in found.read(at, 1).to_pylist()], "rows depend on reading")
    ids = [box["id"] for box in found.truth["annotations"]]
    check(len(set(ids)) == len(ids) and min(ids, default=1) > 0, "evaluators of COCO need ids from 1")
    check(len({row["image_id"] for row in rows}) == len(rows), "two images of one id")
    for row in rows:
        for left, top, width, height in row["boxes"]:
            inside = left >= 0 and top >= 0 and left + width <= row["width"] and top + height <= row["height"]
            check(inside and width > 0 and height > 0, f"a box outside: {left, top, width, height}")
    return len(rows)


def _write_json(folder: Path, name: str, value: Any, rng: random.Random, is_hostile: bool) -> str:
    for number in range(NUM):
        (folder / f"{number}.png").write_bytes(_picture(rng))
    how = "json"
    if is_hostile:
        value, how = hostile.changed(value, rng)
    (folder / name).write_text(json.dumps(value), errors="replace")
    return how


def _masks(folder: Path, rng: random.Random, is_hostile: bool) -> str:
    for place in ("images", "masks"):
        (folder / place).mkdir()
    kinds = ("size", "16 bits", "colours", "bilevel", "number", "header", "names", "twice")
    how = rng.choice(kinds) if is_hostile else "masks"
    for number in range(NUM):
        (folder / f"images/{number}.png").write_bytes(_picture(rng))
        values = np.random.default_rng(number).choice([0, 1, 2, 255], (HEIGHT, WIDTH)).astype(np.uint8)
        is_odd = number == NUM - 1
        if is_odd and how == "size":
            values = values[1:]
        mask = Image.fromarray(values + (7 if is_odd and how == "number" else 0))
        if is_odd and how == "16 bits":
            mask = Image.fromarray(values.astype(np.uint16) * rng.choice((1, 257)))
        elif is_odd and how in ("colours", "bilevel"):
            mask = mask.convert({"colours": rng.choice(("RGB", "RGBA", "LA")), "bilevel": "1"}[how])
        mask.save(folder / f"masks/{number}.png")
        if is_odd and how == "header":
            data = bytearray((folder / f"masks/{number}.png").read_bytes())
            data[16:24] = rng.choice((0, 1, 30_000, 2**31 - 1)).to_bytes(4, "big") * 2
            (folder / f"masks/{number}.png").write_bytes(data)
    text = hostile.text(rng) if how == "names" else "1 heron"
    lines = ["0 nothing", text, "2 barn owl", "1 café" if how == "twice" else "3 BMW 3 Series"]
    (folder / "classes.txt").write_text("\n".join(lines), errors="replace")
    return how


def _read_masks(folder: Path) -> int:
    found = open_masks(str(folder), "evaluate.segmentation.birds", BIRDS)
    for row in range(len(found.masks)):
        [one] = found.read(row, 1).to_pylist()
        label_HW = found.labels(one["file"], one["mask"], one["image"])
        check(label_HW.min(initial=0) >= IGNORE and label_HW.max(initial=0) < len(NAMES), "a pixel of no class")
    return len(found.masks)


LAYOUTS: dict[str, tuple[Make, Callable[[Path], int]]] = {
    "class folders": (_folders, _read_labelled),
    "labels in Parquet": (_labels, _read_labelled),
    "Karpathy's json": (_captions, _read_captions),
    "COCO's json": (_boxes, _read_boxes),
    "masks": (_masks, _read_masks),
}
