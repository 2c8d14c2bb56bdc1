"""Measures `prepare`: images per CPU second, beside bare calls of libraries that could do its work, and stored bytes.

The images are made here, as large and as hard to decode as images of the web. The output is a table and, as its last
line, one JSON object. Libraries that are not installed are left out.

    python tests/benchmark/bench_store.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from math import ceil

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageDraw

from react_ray.pairs.store import prepare
from react_ray.pairs.store_config import StoreConfig

NUM_IMAGES = 24
# name: width, height, JPEG quality, slope of the spectrum, image_size. About 92 kB and 22 kB each.
WORKLOADS = {"web": (800, 600, 85, 1.55, 256), "small": (256, 256, 90, 1.6, 224)}
# What is stored of photographs of these sizes: the default, the same at 256 pixels, and img2dataset's own default.
PHOTOS = ((500, 375), (800, 600), (1600, 1200))
STORED = {
    "keep_ratio 384, if bigger": StoreConfig(),
    "keep_ratio 256, if bigger": StoreConfig(image_size=256),
    "border 256": StoreConfig(resize_mode="border", image_size=256, resize_only_if_bigger=False, skip_reencode=False),
}
Call = Callable[[bytes, int], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="passes over the images; the fastest counts")
    repeats = parser.parse_args().repeats
    images_per_cpu_s: dict[str, dict[str, int]] = {}
    num_bytes: dict[str, int] = {}
    for name, (width, height, quality, slope, side) in WORKLOADS.items():
        images = [jpeg(width, height, quality, slope, seed) for seed in range(NUM_IMAGES)]
        num_bytes[name] = sum(map(len, images)) // NUM_IMAGES
        images_per_cpu_s[name] = {}
        for what, call in calls().items():
            rate = round(NUM_IMAGES / min(cpu_s(call, images, side) for _ in range(repeats)))
            images_per_cpu_s[name][what] = rate
            print(f"{name:6} {what:36} {rate:6} images per CPU second", flush=True)
    stored = stored_bytes()
    libraries = {library: version(library) for library in ("pillow", "simplejpeg", "opencv-python-headless")}
    print(
        json.dumps({"images_per_cpu_s": images_per_cpu_s, "bytes": num_bytes, "stored": stored, "versions": libraries})
    )


def stored_bytes() -> dict[str, dict[str, list[int]]]:
    """For each photograph and each way to store it: width, height and mean bytes, and the bytes as downloaded."""
    found: dict[str, dict[str, list[int]]] = {}
    for width, height in PHOTOS:
        photos = [jpeg(width, height, 85, 1.55, seed) for seed in range(NUM_IMAGES)]
        sizes = {"downloaded": [width, height, sum(map(len, photos)) // NUM_IMAGES]}
        for name, config in STORED.items():
            kept = [prepare(photo, config) for photo in photos]
            num_bytes = sum(len(one.image or b"") for one in kept) // NUM_IMAGES
            sizes[name] = [kept[0].width or 0, kept[0].height or 0, num_bytes]
        found[f"{width} x {height}"] = sizes
        for name, (wide, high, num_bytes) in sizes.items():
            print(f"{width:4} x {height:4}  {name:26} {wide:4} x {high:4} {num_bytes / 1e3:6.0f} kB", flush=True)
    return found


def cpu_s(call: Call, images: list[bytes], side: int) -> float:
    start = time.process_time()
    for data in images:
        call(data, side)
    return time.process_time() - start


def calls() -> dict[str, Call]:
    found: dict[str, Call] = {}
    for mode in ("keep_ratio", "border", "center_crop"):
        found[f"prepare {mode}"] = lambda data, side, mode=mode: prepare(
            data, StoreConfig(resize_mode=mode, image_size=side, resize_only_if_bigger=False, skip_reencode=False)
        )
    found["prepare disable_all_reencoding"] = lambda data, side: prepare(data, StoreConfig(disable_all_reencoding=True))
    found["bare simplejpeg, cv2 linear, cv2"] = simplejpeg_and_opencv
    found["bare cv2 reduced, linear"] = opencv
    found["bare cv2 full, area (img2dataset's)"] = opencv_in_full
    found["bare Pillow draft, Hamming"] = pillow
    found["bare simplejpeg, Pillow Hamming"] = simplejpeg_and_pillow
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    try:
        import pyvips  # noqa: F401
    except (ImportError, OSError):
        return found
    return {**found, "bare pyvips thumbnail": vips}


def target(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / min(size)
    return round(size[0] * scale), round(size[1] * scale)


def reduction(size: tuple[int, int], wanted: tuple[int, int]) -> int:
    return 2 if min(size[0] / wanted[0], size[1] / wanted[1]) >= 2 else 1


def simplejpeg_and_opencv(data: bytes, side: int) -> bytes:
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    wanted = target((width, height), side)
    scale = reduction((width, height), wanted)
    image = simplejpeg.decode_jpeg(
        data, "BGR", min_width=ceil(width / scale), min_height=ceil(height / scale), min_factor=scale
    )
    image = cv2.resize(image, wanted, interpolation=cv2.INTER_LINEAR)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def opencv(data: bytes, side: int) -> bytes:
    size = Image.open(io.BytesIO(data)).size
    wanted = target(size, side)
    flag = cv2.IMREAD_REDUCED_COLOR_2 if reduction(size, wanted) == 2 else cv2.IMREAD_COLOR
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    assert image is not None
    image = cv2.resize(image, wanted, interpolation=cv2.INTER_LINEAR)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def opencv_in_full(data: bytes, side: int) -> bytes:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    image = cv2.resize(image, target((image.shape[1], image.shape[0]), side), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def pillow(data: bytes, side: int) -> bytes:
    image = Image.open(io.BytesIO(data))
    wanted = target(image.size, side)
    image.draft(None, wanted)
    return save(image.resize(wanted, Image.Resampling.HAMMING))


def simplejpeg_and_pillow(data: bytes, side: int) -> bytes:
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    wanted = target((width, height), side)
    scale = reduction((width, height), wanted)
    image = simplejpeg.decode_jpeg(
        data, "RGB", min_width=ceil(width / scale), min_height=ceil(height / scale), min_factor=scale
    )
    resized = Image.fromarray(image).resize(wanted, Image.Resampling.HAMMING)
    return simplejpeg.encode_jpeg(np.asarray(resized), 95, "RGB", "420")


def vips(data: bytes, side: int) -> bytes:
    import pyvips

    wanted = target(Image.open(io.BytesIO(data)).size, side)
    image = pyvips.Image.thumbnail_buffer(data, wanted[0], height=wanted[1], size="force").copy_memory()
    return image.jpegsave_buffer(Q=95, keep="none", subsample_mode="on")


def save(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def jpeg(width: int, height: int, quality: int, slope: float, seed: int) -> bytes:
    """Makes a JPEG of noise with the spectrum of photographs, and of letters."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    frequency[0, 0] = 1
    spectra = random.normal(size=(4, 2, *frequency.shape)) / frequency**slope
    fields = np.fft.irfft2(spectra[:, 0] + 1j * spectra[:, 1], s=(height, width))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    channels = fields[0] + 0.35 * fields[1:]
    image = Image.fromarray(np.clip(128 + 52 * channels, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy())
    draw = ImageDraw.Draw(image)
    for row in range(4):
        draw.text((width // 10 * (row + 1), height * row // 4), "Sale 50% off", fill="white", font_size=height // 16)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
