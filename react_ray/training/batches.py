"""Training batches: rows of pairs in, the same sequence of global batches out for any number of workers.

The order of an epoch is a function of (seed, epoch) alone: parts are shuffled, taken in windows of `window_parts`, and
the rows of a window are shuffled together. A rank takes its share of every global batch, so step s can be made again
after any interruption, by any number of ranks. Images are kept decoded (uint8) when all of them fit in `cache_gb`,
encoded otherwise. In the place of an image that cannot be decoded stands the next one of its window. Next: augment.py, then loss.py.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from react_ray.errors import ConfigError, PartFailed
from react_ray.pairs.image import CropMode, Interpolation, decode_batch
from react_ray.vectors import from_vectors

WINDOW_BYTES = 1 << 29  # of encoded images
FIRST_LOOK = 1000  # a share is one of this many images at least


class Rows(Protocol):
    """Where training rows come from."""

    part_sizes: list[int]  # rows with a usable image
    part_bytes: list[int]  # of their images, about

    def read(self, part: int) -> pa.Table:
        """image: binary; captions: list<string>; optionally pair_id: int64, class_id: int32,
        text_embedding: schema.vector(D)."""


@dataclass(frozen=True)
class Batch:
    """One rank's share of one global batch; B rows."""

    step: int
    epoch: int
    image_BCHW: np.ndarray  # uint8
    captions: list[str]
    caption_id_B: np.ndarray  # int64: equal for equal captions
    class_id_B: np.ndarray  # int64: class that the pair was retrieved for, -1 = none
    pair_id_B: np.ndarray  # int64, -1 where the source has none
    text_BD: np.ndarray | None  # float16: cached caption vectors


@dataclass
class _Window:
    images: list[bytes]
    captions: list[list[str]]
    class_ids: np.ndarray
    pair_ids: np.ndarray
    text_ND: np.ndarray | None
    stand_in: np.ndarray  # int64: the row whose image and caption are taken, itself where it can be decoded
    pixels: np.ndarray | None = None


class Batches:
    """`num_decoded` and `num_undecodable` count images; `waited_s` is the time that `iterate` waited for the next batch."""

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        image_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        window_parts: int = 0,
        cache_gb: float = 2.0,
        num_threads: int = 1,
        max_undecodable: float = 0.0,
        crop: CropMode = "center_crop",
        interpolation: Interpolation = "bicubic",
        augment: Callable[[bytes, int], np.ndarray] | None = None,
    ) -> None:
        """augment: of a whole encoded image and a seed, which is another one in each epoch; None = plain decoding."""
        if batch_size % world_size:
            raise ConfigError(
                f"customize.batch_size {batch_size} is not a multiple of {world_size} workers; change one of them"
            )
        self.rows, self.batch_size, self.image_size, self.seed = rows, batch_size, image_size, seed
        self.local, self.rank, self.num_threads = batch_size // world_size, rank, num_threads
        self.window_parts = window_parts or parts_of_window(rows)
        self.max_undecodable = max_undecodable
        self.num_decoded, self.num_undecodable, self.waited_s = 0, 0, 0.0
        self.num_rows = sum(rows.part_sizes)
        check_batch_size(rows, batch_size)
        self.steps_per_epoch = self.num_rows // batch_size
        self.crop, self.interpolation, self.augment = crop, interpolation, augment
        self._keep_pixels = not augment and pixels_bytes(rows, image_size) <= cache_gb * 2**30
        self._windows: dict[tuple[int, ...], _Window] = {}

    def iterate(
        self, start_step: int, stop_step: int, make: Callable[[int], Any] | None = None, ahead: int = 1
    ) -> Iterator[Batch]:
        """Batches of steps start..stop-1; the next `ahead` are prepared while one is used.

        make: begins the batch of a step elsewhere and gives a future of it; None = in a thread.
        """
        with ThreadPoolExecutor(1) as pool:
            begin = make or (lambda step: pool.submit(self.batch, step))
            coming = deque(begin(step) for step in range(start_step, min(start_step + ahead, stop_step)))
            for step in range(start_step, stop_step):
                began = time.monotonic()
                batch = coming.popleft().result()
                self.waited_s += time.monotonic() - began
                if step + ahead < stop_step:
                    coming.append(begin(step + ahead))
                yield batch

    def batch(self, step: int) -> Batch:
        epoch, index = divmod(step, self.steps_per_epoch)
        first = index * self.batch_size + self.rank * self.local
        return _join(step, epoch, self._pieces(epoch, first, first + self.local))

    def _pieces(self, epoch: int, first: int, last: int) -> list[Batch]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows.part_sizes))
        pieces, begin = [], 0
        for number, start in enumerate(range(0, len(order), self.window_parts)):
            parts = order[start : start + self.window_parts]
            size = sum(self.rows.part_sizes[part] for part in parts)
            low, high = max(first, begin), min(last, begin + size)
            if low < high:
                generator = np.random.default_rng([self.seed, epoch, number])
                rows = generator.permutation(size)[low - begin : high - begin]
                draws = generator.random(size)[rows]
                seeds = [_seed(self.seed, epoch, place) for place in range(low, high)] if self.augment else None
                pieces.append(self._take(tuple(sorted(int(p) for p in parts)), rows, draws, seeds))
            begin += size
        return pieces

    def _take(self, parts: tuple[int, ...], rows: np.ndarray, draws: np.ndarray, seeds: list[int] | None) -> Batch:
        window = self._window(parts)
        pixels = self._pixels(window, rows, seeds)
        rows = window.stand_in[rows]
        captions = [_draw(window.captions[row], draw) for row, draw in zip(rows, draws, strict=True)]
        return Batch(
            step=0,
            epoch=0,
            image_BCHW=pixels,
            captions=captions,
            caption_id_B=np.array([caption_id(c) for c in captions], np.int64),
            class_id_B=window.class_ids[rows],
            pair_id_B=window.pair_ids[rows],
            text_BD=None if window.text_ND is None else window.text_ND[rows],
        )

    def _pixels(self, window: _Window, rows: np.ndarray, seeds: list[int] | None) -> np.ndarray:
        """Of these rows, or of those that stand in for them: which is found here, once per window."""
        if window.pixels is not None:
            return window.pixels[window.stand_in[rows]]
        pixels, bad = self._decode([window.images[row] for row in window.stand_in[rows]], seeds)
        for place in bad:
            row = int(rows[place])
            for other in (int((row + shift) % len(window.images)) for shift in range(1, len(window.images))):
                one, failed = self._decode([window.images[other]], seeds and seeds[place : place + 1])
                if not failed:
                    window.stand_in[row], pixels[place] = other, one[0]
                    break
            else:
                raise PartFailed("no image of a whole window can be decoded; look at the images of the retrieved pairs")
        return pixels

    def _window(self, parts: tuple[int, ...]) -> _Window:
        if parts not in self._windows:
            if not self._keep_pixels:
                while len(self._windows) > 1:  # a batch straddles two windows at most
                    self._windows.pop(next(iter(self._windows)))
            window = self._load(parts)
            if self._keep_pixels:
                rows = np.arange(len(window.images))
                window.pixels, window.images = self._pixels(window, rows, None), []
            self._windows[parts] = window
        return self._windows[parts]

    def _load(self, parts: tuple[int, ...]) -> _Window:
        table = pa.concat_tables([self.rows.read(part) for part in parts])
        assert table.num_rows == sum(self.rows.part_sizes[part] for part in parts), "part_sizes do not count the rows"
        names = table.column_names
        return _Window(
            images=table["image"].to_pylist(),
            captions=table["captions"].to_pylist(),
            class_ids=table["class_id"].to_numpy().astype(np.int64)
            if "class_id" in names
            else np.full(table.num_rows, -1, np.int64),
            pair_ids=table["pair_id"].to_numpy() if "pair_id" in names else np.full(table.num_rows, -1, np.int64),
            stand_in=np.arange(table.num_rows),
            text_ND=from_vectors(table["text_embedding"]) if "text_embedding" in names else None,
        )

    def _decode(self, images: list[bytes], seeds: list[int] | None) -> tuple[np.ndarray, list[int]]:
        """Pixels, and the places of images that have none. PartFailed if those are too many of all that were decoded."""
        if seeds is None or self.augment is None:
            pixels, problems = decode_batch(images, self.image_size, self.num_threads, self.crop, self.interpolation)
        else:
            pixels, problems = _augmented(images, seeds, self.image_size, self.augment)
        bad = [place for place, problem in enumerate(problems) if problem is not None]
        self.num_decoded += len(images)
        self.num_undecodable += len(bad)
        if bad and self.num_undecodable > self.max_undecodable * max(self.num_decoded, FIRST_LOOK):
            raise PartFailed(
                f"{self.num_undecodable} of {self.num_decoded} images cannot be decoded ({problems[bad[0]]}), more than "
                f"customize.max_undecodable={self.max_undecodable:g}; make the images again, or allow more"
            )
        return pixels, bad


def check_batch_size(rows: Rows, batch_size: int) -> None:
    if batch_size > sum(rows.part_sizes):
        raise ConfigError(
            f"customize.batch_size {batch_size} is larger than the {sum(rows.part_sizes)} pairs to train on (those with an image and, of a retrieved set, a vector of the caption); make it smaller or retrieve more"
        )


def parts_of_window(rows: Rows) -> int:
    """How many parts are shuffled together unless the recipe says; a function of the data alone."""
    return max(1, int(WINDOW_BYTES * len(rows.part_bytes) / max(1, sum(rows.part_bytes))))


def pixels_bytes(rows: Rows, image_size: int) -> int:
    return sum(rows.part_sizes) * 3 * image_size**2


def held_bytes(rows: Rows, window_parts: int, cache_gb: float, image_size: int, augments: bool) -> int:
    """Memory of a process that makes batches: two windows, one of them twice while it is read, or all images decoded and one window."""
    window = sum(sorted(rows.part_bytes)[-(window_parts or parts_of_window(rows)) :])
    decoded = pixels_bytes(rows, image_size)
    return decoded + 2 * window if not augments and decoded <= cache_gb * 2**30 else 3 * window


def _augmented(
    images: list[bytes], seeds: list[int], size: int, augment: Callable[[bytes, int], np.ndarray]
) -> tuple[np.ndarray, list[str | None]]:
    pixels_BCHW = np.zeros((len(images), 3, size, size), np.uint8)
    problems: list[str | None] = [None] * len(images)
    for row, (image, seed) in enumerate(zip(images, seeds, strict=True)):
        try:
            pixels_BCHW[row] = augment(image, seed)
        except ValueError as error:
            problems[row] = str(error)
    return pixels_BCHW, problems


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def caption_id(caption: str) -> int:
    """63 bits of the caption's hash: equal captions are equal, others collide once in 10^9 batches of 4096."""
    return int.from_bytes(hashlib.blake2b(caption.encode(), digest_size=8).digest(), "little") >> 1


def _draw(captions: list[str], draw: float) -> str:
    return captions[int(draw * len(captions))] if captions else ""


def _join(step: int, epoch: int, pieces: list[Batch]) -> Batch:
    texts = [piece.text_BD for piece in pieces if piece.text_BD is not None]
    return Batch(
        step=step,
        epoch=epoch,
        image_BCHW=np.concatenate([piece.image_BCHW for piece in pieces]),
        captions=[caption for piece in pieces for caption in piece.captions],
        caption_id_B=np.concatenate([piece.caption_id_B for piece in pieces]),
        class_id_B=np.concatenate([piece.class_id_B for piece in pieces]),
        pair_id_B=np.concatenate([piece.pair_id_B for piece in pieces]),
        text_BD=np.concatenate(texts) if texts else None,
    )
