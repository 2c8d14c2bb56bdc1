"""Makes small valid images of every kind that the product decodes: all depths, modes, compressions and layouts.

Pillow writes most of them. PNG is written here, because Pillow writes neither 16-bit colours nor interlacing.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, PngImagePlugin

from tests.campaign.case import numpy_rng

PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples per pixel
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
TIFF_FORMS = (
    [("RGB", how) for how in ("raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")]
    + [("1", "group4"), ("1", "raw"), ("L", "tiff_lzw"), ("LA", "raw"), ("RGBA", "tiff_lzw"), ("CMYK", "raw")]
    + [("I;16", "raw"), ("F", "raw"), ("P", "packbits"), ("I", "raw"), ("LAB", "raw"), ("YCbCr", "raw")]
)


def seed_image(rng: random.Random) -> tuple[str, bytes]:
    """Returns the name of a kind, and an image of it."""
    name, make = rng.choice(list(MAKERS.items()))
    return name, make(rng)


def picture(rng: random.Random, mode: str = "RGB", longest: int = 90) -> Image.Image:
    """Makes a smooth picture with some noise, of any mode."""
    numbers = numpy_rng(rng)
    width, height = rng.randrange(1, longest), rng.randrange(1, longest)
    small = Image.fromarray(numbers.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    if mode in ("RGBA", "LA", "PA"):
        image.putalpha(Image.fromarray(numbers.integers(0, 255, (height, width), dtype=np.uint8)))
        return image.convert("RGBA").convert(mode) if mode != "PA" else image.convert("RGBA")
    if mode in ("I;16", "I", "F"):
        top = {"I;16": 65535, "I": 65535, "F": 1.0}[mode]
        grey = numbers.random((height, width)) * top
        return Image.fromarray(grey.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    if mode == "LAB":
        return Image.frombytes("LAB", image.size, image.tobytes())
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def exif(rng: random.Random) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = rng.randrange(1, 9)
    tags[0x010E] = "a heron"
    return tags.tobytes()


def jpeg(rng: random.Random) -> bytes:
    image = picture(rng, rng.choice(("RGB", "RGB", "L", "CMYK")))
    options = {"quality": rng.choice((5, 75, 95)), "progressive": rng.random() < 0.4}
    if rng.random() < 0.4:
        options["exif"] = exif(rng)
    if rng.random() < 0.2:
        options["restart_marker_blocks"] = rng.randrange(1, 5)
    if rng.random() < 0.2:
        options |= {"comment": b"by a camera", "icc_profile": rng.randbytes(rng.choice((100, 70_000)))}
    if image.mode == "RGB":
        options["subsampling"] = rng.choice((0, 1, 2))
    return saved(image, "JPEG", **options)


def mpo(rng: random.Random) -> bytes:
    return saved(picture(rng), "MPO", save_all=True, append_images=[picture(rng)])


def gif(rng: random.Random) -> bytes:
    frames = [picture(rng, "P") for _ in range(rng.choice((1, 1, 3)))]
    options = {"transparency": rng.randrange(256)} if rng.random() < 0.4 else {}
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:], **options)


def webp(rng: random.Random) -> bytes:
    image = picture(rng, rng.choice(("RGB", "RGBA")))
    if rng.random() < 0.2:
        return saved(image, "WEBP", save_all=True, append_images=[picture(rng).resize(image.size)])
    return saved(image, "WEBP", lossless=rng.random() < 0.5, quality=60, **_some_exif(rng))


def avif(rng: random.Random) -> bytes:
    return saved(picture(rng, rng.choice(("RGB", "RGBA", "L"))), "AVIF", quality=50, speed=10, **_some_exif(rng))


def tiff(rng: random.Random) -> bytes:
    mode, how = rng.choice(TIFF_FORMS)
    image = picture(rng, mode)
    options: dict[str, object] = {"compression": how, "tiffinfo": {270: "a heron"}}
    if rng.random() < 0.2 and how == "raw":
        options |= {"save_all": True, "append_images": [picture(rng, mode)]}
    if rng.random() < 0.2:
        options["big_tiff"] = True
    return saved(image, "TIFF", **options)


def bmp(rng: random.Random) -> bytes:
    return saved(picture(rng, rng.choice(("1", "L", "P", "RGB", "RGBA"))), "BMP")


def ico(rng: random.Random) -> bytes:
    image = picture(rng, "RGBA").resize((64, 64))
    sizes = rng.choice(([(16, 16)], [(16, 16), (32, 32), (64, 64)]))
    return saved(image, "ICO", sizes=sizes, bitmap_format=rng.choice(("png", "bmp")))


def pillow_png(rng: random.Random) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a heron " * rng.choice((1, 1000)), zip=rng.random() < 0.5)
    options = {"pnginfo": text} | _some_exif(rng)
    image = picture(rng, rng.choice(("RGB", "RGBA", "L", "LA", "P", "1", "I;16")))
    if rng.random() < 0.2:
        options |= {"save_all": True, "append_images": [picture(rng).resize(image.size)]}
    return saved(image, "PNG", **options)


def png(rng: random.Random) -> bytes:
    """Any colour type, depth and interlacing, with transparency in some."""
    colour = rng.choice(list(PNG_DEPTHS))
    depth = rng.choice(PNG_DEPTHS[colour])
    width, height, interlaced = rng.randrange(1, 70), rng.randrange(1, 70), int(rng.random() < 0.3)
    samples = numpy_rng(rng).integers(0, 1 << depth, (height, width, PNG_CHANNELS[colour]))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))]
    if colour == 3:
        chunks.append((b"PLTE", rng.randbytes(3 << depth)))
    if rng.random() < 0.3 and colour in (0, 2, 3):
        transparent = rng.randbytes(1 << depth) if colour == 3 else struct.pack(">H", 1) * PNG_CHANNELS[colour]
        chunks.append((b"tRNS", transparent))
    if rng.random() < 0.2:
        chunks.append((b"gAMA", struct.pack(">I", 45455)))
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(_png_rows(samples[y::dy, x::dx], depth) for x, y, dx, dy in passes)
    return png_bytes([*chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def png_bytes(chunks: list[tuple[bytes, bytes]]) -> bytes:
    framed = [struct.pack(">I", len(data)) + name + data + _crc(name + data) for name, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 8, []
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _png_rows(samples: np.ndarray, depth: int) -> bytes:
    """Packs rows without a filter; a pass without pixels has no rows."""
    if not samples.size:
        return b""
    flat = samples.reshape(samples.shape[0], -1)
    if depth == 16:
        packed = flat.astype(">u2").view(np.uint8).reshape(flat.shape[0], -1)
    elif depth == 8:
        packed = flat.astype(np.uint8)
    else:
        bits = (flat[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(flat.shape[0], -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def _some_exif(rng: random.Random) -> dict[str, object]:
    return {"exif": exif(rng)} if rng.random() < 0.3 else {}


MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    made.__name__: made for made in (jpeg, mpo, gif, webp, avif, tiff, bmp, ico, pillow_png, png)
}
