"""Scenes with known masks and boxes, drawn by a seed: pictures of classes pasted on a plain ground, none over another.

    python -m tests.support.scenes FOLDER --task food --count 200

pastes held-out drawings of the sample, and writes `images/`, `masks/`, `classes.txt` and `annotations.json` (COCO).
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from react_ray.uri import absolute

WHITE = 245  # pixels that are lighter are the ground of a drawing
CELL = 64


def write_scenes(
    folder: Path,
    num_scenes: int,
    class_names: Sequence[str],
    pictures: Sequence[list[Image.Image]] = (),
    seed: int = 0,
    cells: int = 2,
) -> None:
    """Writes scenes of cells x cells cells, each with a picture of a class or empty; the numbers of masks are 1, 2, ...

    pictures: RGB, those of each class; () = a rectangle in a colour of its class.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images, boxes = [], []
    for number in range(num_scenes):
        scene = np.full((cells * CELL, cells * CELL, 3), rng.integers(200, 256, size=3), np.uint8)
        mask = np.zeros(scene.shape[:2], np.uint8)
        for cell in range(cells * cells):
            if rng.random() < 0.25 and cell:  # every scene has a picture
                continue
            label = int(rng.integers(len(class_names)))
            side = int(rng.integers(CELL // 2, CELL - 2))
            some = pictures[label] if pictures else [Image.new("RGB", (8, 8), _colour(label))]
            picture = np.asarray(some[int(rng.integers(len(some)))].convert("RGB").resize((side, side)))
            shape = picture.min(axis=2) < WHITE
            top, left = (int(i) * CELL + int(rng.integers(CELL - side)) for i in divmod(cell, cells))
            region = (slice(top, top + side), slice(left, left + side))
            scene[region][shape] = picture[shape]
            mask[region][shape] = label + 1
            rows, columns = (np.flatnonzero(shape.any(axis=axis)) for axis in (1, 0))
            box = [left + int(columns[0]), top + int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
            ids: dict[str, Any] = {"id": len(boxes) + 1, "image_id": number, "category_id": label + 1}
            boxes.append(ids | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0})
        Image.fromarray(scene).save(folder / f"images/{number}.png")
        Image.fromarray(mask).save(folder / f"masks/{number}.png")
        height, width = mask.shape
        images.append({"id": number, "file_name": f"images/{number}.png", "width": width, "height": height})
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(class_names)]
    (folder / "annotations.json").write_text(
        json.dumps({"images": images, "annotations": boxes, "categories": categories})
    )
    lines = ["0 nothing", *(f"{place + 1} {name}" for place, name in enumerate(class_names))]
    (folder / "classes.txt").write_text("\n".join(lines) + "\n")


def _colour(label: int) -> tuple[int, int, int]:
    return (60 * label % 240, 20 + 90 * label % 200, 200 - 70 * label % 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", default="food")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--drawings", default="sample://test.parquet")
    given = parser.parse_args()
    table = pq.read_table(absolute(given.drawings), columns=["image", "task", "label"])
    found: dict[str, list[Image.Image]] = {}
    for row in table.to_pylist():
        if row["task"] == given.task:
            picture = Image.open(io.BytesIO(row["image"])).convert("RGB")
            if (np.asarray(picture).min(axis=2) < WHITE).any():
                found.setdefault(row["label"], []).append(picture)
    write_scenes(given.folder, given.count, sorted(found), [found[name] for name in sorted(found)])


if __name__ == "__main__":
    main()
