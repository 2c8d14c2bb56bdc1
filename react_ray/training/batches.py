"""Turns rows of pairs into training batches: the same sequence of global batches for any number of workers.

The order of an epoch is a function of (seed, epoch) alone: parts are shuffled, taken in windows of `window_parts`, and
the rows of a window are shuffled together. A rank takes its share of every global batch, so the batch of a step can be
made again after any interruption, by any number of ranks. Images are kept decoded (uint8) if all of them fit in
`cache_gb`, encoded otherwise. An image that cannot be decoded is replaced by the next good one of its window.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from react_ray.errors import ConfigError, PartFailed
from react_ray.pairs.image import CropMode, Interpolation, decode_batch
from react_ray.row_guard import unforeseen
from react_ray.training.window import Rows, Window, check_batch_size, load_window, parts_of_window, pixels_bytes

FIRST_LOOK = 1000  # max_undecodable is a share of at least so many images


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch, B rows."""

    step: int
    epoch: int
    image_BCHW: np.ndarray  # uint8
    captions: list[str]
    caption_id_B: np.ndarray  # int64, equal for equal captions
    class_id_B: np.ndarray  # int64, the class that the pair was retrieved for, -1 = none
    pair_id_B: np.ndarray  # int64, -1 where the source has none
    text_BD: np.ndarray | None  # float16, stored vectors of the captions
    matched: list[dict[int, float]] = field(default_factory=list)  # weights of all classes; empty = class_id_B alone


class Batches:
    """Makes the batches of one rank.

    `num_decoded` and `num_undecodable` count images; `waited_s` is the time that `iterate` waited for batches.
    """

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
        """augment: takes a whole encoded image and a seed, which differs in each epoch; None = plain decoding."""
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
        self._windows: dict[tuple[int, ...], Window] = {}

    def iterate(
        self, start_step: int, stop_step: int, make: Callable[[int], Any] | None = None, ahead: int = 1
    ) -> Iterator[Batch]:
        """The batches of steps start .. stop - 1; the next `ahead` batches are prepared while one is used.

        make: begins the batch of a step elsewhere and returns a future of it; None = in a thread.
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
            matched=[window.matched[row] for row in rows] if window.matched else [],
        )

    def _pixels(self, window: Window, rows: np.ndarray, seeds: list[int] | None) -> np.ndarray:
        """Pixels of these rows, or of the rows that stand in for them, which are found here, once per window."""
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

    def _window(self, parts: tuple[int, ...]) -> Window:
        if parts not in self._windows:
            if not self._keep_pixels:
                while len(self._windows) > 1:  # a batch straddles two windows at most
                    self._windows.pop(next(iter(self._windows)))
            window = load_window(self.rows, parts)
            if self._keep_pixels:
                rows = np.arange(len(window.images))
                window.pixels, window.images = self._pixels(window, rows, None), []
            self._windows[parts] = window
        return self._windows[parts]

    def _decode(self, images: list[bytes], seeds: list[int] | None) -> tuple[np.ndarray, list[int]]:
        """Pixels, and the places of images that cannot be decoded; PartFailed if too many of all images cannot be."""
        if seeds is None or self.augment is None:
            pixels, problems = decode_batch(images, self.image_size, self.num_threads, self.crop, self.interpolation)
        else:
            pixels, problems = _augmented(images, seeds, self.image_size, self.augment)
        bad = [place for place, problem in enumerate(problems) if problem is not None]
        self.num_decoded += len(images)
        self.num_undecodable += len(bad)
        if bad and self.num_undecodable > self.max_undecodable * max(self.num_decoded, FIRST_LOOK):
            raise PartFailed(
                f"{self.num_undecodable} of {self.num_decoded} images cannot be decoded ({problems[bad[0]]}), more "
                f"than customize.max_undecodable={self.max_undecodable:g}; make the images again, or allow more"
            )
        return pixels, bad


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
        except Exception as error:
            problems[row] = unforeseen(error)
    return pixels_BCHW, problems


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def caption_id(caption: str) -> int:
    """63 bits of the caption's hash; different captions collide once in 10^9 batches of 4096."""
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
        matched=[one for piece in pieces for one in piece.matched],
    )
