"""Four images of three birds: what the tests of evaluation sets write in one layout after the other."""

from __future__ import annotations

import io

from PIL import Image

from react_ray.clip.prompts import TargetTask

CLASSES = ("grey heron", "barn owl", "red fox")
BIRDS = TargetTask("birds", CLASSES, ("a {}",), tuple((name,) for name in CLASSES))
SIZES = TargetTask("sizes", ("big", "small"), ("a {}",), (("big",), ("small",)))
WANTED = ["grey heron", "red fox", "barn owl", "grey heron"]
POSITIONS = [0, 2, 1, 0]


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8 + number, 6), (20 * number, 80, 200)).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [picture(number) for number in range(4)]
