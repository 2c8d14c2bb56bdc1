"""True boxes and detections of them, as in COCO's JSON, drawn by a seed."""

from __future__ import annotations

from typing import Any

import numpy as np


def drawn(num_images: int = 12, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """True boxes, one of them a crowd, and detections near them or elsewhere."""
    rng = np.random.default_rng(seed)
    boxes, found = [], []
    for image in range(num_images):
        for _ in range(int(rng.integers(1, 6))):
            box = np.concatenate([rng.uniform(0, 60, 2), rng.uniform(5, 40, 2)])
            category = int(rng.integers(1, 5))
            ids = {"id": len(boxes) + 1, "image_id": image, "category_id": category, "iscrowd": int(len(boxes) == 7)}
            boxes.append(ids | {"bbox": box.tolist(), "area": float(box[2] * box[3])})
            near = box + rng.normal(0, 2, 4)
            category = category if rng.random() < 0.7 else int(rng.integers(1, 5))
            found.append({"image_id": image, "category_id": category, "bbox": near.tolist(), "score": rng.random()})
    images = [{"id": number, "width": 100, "height": 100, "file_name": f"{number}.png"} for number in range(num_images)]
    return {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": i, "name": f"c{i}"} for i in range(1, 6)],
    }, found
