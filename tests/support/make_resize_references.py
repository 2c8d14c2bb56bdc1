"""Writes the references of tests/unit/pairs/test_store.py with img2dataset 1.47.0.

They are, in tests/unit/pairs/references/, the source images, the results of img2dataset's Resizer (as PNG, which keeps
the exact pixels), and resizer.json with its sizes and refusals where no image is needed. Run it where img2dataset is
installed, on Python 3.11 or older (it needs imghdr), and commit what changes:

    python -m venv /tmp/i2d && /tmp/i2d/bin/pip install img2dataset==1.47.0
    /tmp/i2d/bin/python tests/support/make_resize_references.py
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from img2dataset.resizer import Resizer
from PIL import Image, ImageDraw

OUT = Path(__file__).parents[1] / "unit" / "pairs" / "references"
MODES = ("no", "border", "keep_ratio", "keep_ratio_largest", "center_crop")
SIZES = (
    (64, 64),
    (65, 63),
    (100, 40),
    (40, 101),
    (333, 127),
    (127, 333),
    (1, 1),
    (3, 200),
    (64, 65),
    (31, 64),
    (641, 479),
)
SIDE = 64
# file: the modes and image sizes with which it is resized; only JPEGs are decoded at a reduced scale
PICTURES: dict[str, tuple[tuple[str, int], ...]] = {
    "photo.jpg": (("keep_ratio", 110), ("border", 100), ("center_crop", 75), ("keep_ratio_largest", 64)),
    "page.png": (("keep_ratio", 128), ("keep_ratio_largest", 72)),
    "tall.jpg": (("border", 90), ("keep_ratio_largest", 196)),
    "small.jpg": (("keep_ratio", 80), ("border", 90)),
    "large.jpg": (("keep_ratio", 56), ("center_crop", 110)),
    "grey.jpg": (("center_crop", 96),),
}


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for name, data in sources():
        (OUT / name).write_bytes(data)
        for mode, side in PICTURES[name]:
            (OUT / f"{Path(name).stem}-{mode}-{side}.png").write_bytes(resized(data, mode, side))
    tables = {"sizes": sizes(), "refusals": refusals(), "kept": kept()}
    rows = [f'"{name}": [\n' + ",\n".join(map(json.dumps, table)) + "\n]" for name, table in tables.items()]
    (OUT / "resizer.json").write_text("{" + ",\n".join(rows) + "}\n")


def sources() -> Iterator[tuple[str, bytes]]:
    yield "photo.jpg", encode(text(scene(400, 300, 0, 1.65), 20), quality=80)
    yield "page.png", encode(text(Image.new("RGB", (360, 250), "ivory"), 14), "PNG", optimize=True)
    yield "tall.jpg", encode(text(scene(180, 500, 1, 1.7), 13), quality=85)
    yield "small.jpg", encode(scene(60, 45, 2, 1.7), quality=90)
    yield "large.jpg", encode(text(scene(900, 700, 3, 2.0), 40), quality=60)
    yield "grey.jpg", encode(scene(240, 200, 4, 1.8).convert("L"), quality=88)


def scene(width: int, height: int, seed: int, slope: float) -> Image.Image:
    """Makes noise whose amplitude falls with frequency, like that of photographs; the three channels are correlated."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    frequency[0, 0] = 1

    def field() -> np.ndarray:
        real, imaginary = random.normal(size=(2, *frequency.shape))
        values = np.fft.irfft2((real + 1j * imaginary) / frequency**slope, s=(height, width))
        return values / values.std()

    shared = field()
    channels = np.stack([shared + 0.35 * field() for _ in range(3)], axis=-1)
    return Image.fromarray(np.clip(128 + 50 * channels, 0, 255).astype(np.uint8))


def text(image: Image.Image, height: int) -> Image.Image:
    """Draws letters and lines, whose edges show differences in resampling."""
    draw = ImageDraw.Draw(image)
    for row, color in enumerate(("black", "crimson", "white", "navy")):
        top = image.height * (2 * row + 1) // 8
        draw.text((image.width // 12, top), "Sale 50% off, photo 1:1", fill=color, font_size=height)
    draw.rectangle(
        (image.width // 2, image.height // 8, image.width * 7 // 8, image.height // 2), outline="black", width=2
    )
    draw.line((0, image.height, image.width, 0), fill="gold", width=2)
    return image


def sizes() -> Iterator[list[Any]]:
    for size in SIZES:
        data = encode(Image.new("RGB", size, "teal"), "PNG")
        for mode in MODES:
            for only_if_bigger in (False, True):
                _, width, height, *_ = Resizer(SIDE, mode, only_if_bigger)(io.BytesIO(data))
                yield [size, mode, only_if_bigger, [width, height]]


def refusals() -> Iterator[list[Any]]:
    for option, value in (("min_image_size", 40), ("max_image_area", 4096), ("max_aspect_ratio", 2.5)):
        for size in SIZES:
            resizer = Resizer(SIDE, "border", False, **{option: value})
            *_, error = resizer(io.BytesIO(encode(Image.new("RGB", size, "teal"), "PNG")))
            yield [size, option, value, error]


def kept() -> Iterator[list[Any]]:
    """Yields in which cases skip_reencode keeps the downloaded bytes."""
    for size in ((100, 80), (50, 40)):
        for format in ("JPEG", "PNG", "WEBP"):
            for color in ("teal", (0, 128, 128, 90)):
                if format == "JPEG" and color != "teal":
                    continue
                image = Image.new("RGB" if color == "teal" else "RGBA", size, color)
                data = encode(image, format)
                for mode in MODES:
                    for target in ("jpg", "png", "webp"):
                        quality = 6 if target == "png" else 95
                        resizer = Resizer(
                            SIDE, mode, True, encode_format=target, encode_quality=quality, skip_reencode=True
                        )
                        stored, *_ = resizer(io.BytesIO(data))
                        yield [size, format, image.mode, mode, target, stored == data]


def encode(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def resized(data: bytes, mode: str, side: int) -> bytes:
    stored, *_, error = Resizer(side, mode, False, encode_format="png", encode_quality=9)(io.BytesIO(data))
    assert error is None, error
    pixels = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_UNCHANGED)
    image = Image.fromarray(pixels if pixels.ndim == 2 else pixels[..., ::-1])
    return encode(image, "PNG", optimize=True)


if __name__ == "__main__":
    main()
