"""Turns rows of pairs into training batches: the same sequence of global batches for any number of workers.

Which row fills which slot of a batch is decided in order.py. A rank fills its share of the slots of every global
batch, alone or with other processes (`split`), and reads only the blocks of rows that its slots need. Images are kept
decoded (uint8) if all of them fit in `cache_gb`; otherwise encoded, all that were read if they are few (blocks.fits),
or those of the blocks that the last batch used. An image that cannot be decoded is replaced by the next good one.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from react_ray.errors import ConfigError, PartFailed
from react_ray.pairs.image import CropMode, Interpolation, decode_batch
from react_ray.row_guard import unforeseen
from react_ray.training.blocks import (
    READS_AT_ONCE,
    Block,
    Rows,
    check_batch_size,
    count_streams,
    fits,
    load_block,
    pixels_bytes,
)
from react_ray.training.order import Order

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
        streams: int = 0,
        cache_gb: float = 2.0,
        num_threads: int = 1,
        max_undecodable: float = 0.0,
        crop: CropMode = "center_crop",
        interpolation: Interpolation = "bicubic",
        augment: Callable[[bytes, int], np.ndarray] | None = None,
        keep_all: bool | None = None,
    ) -> None:
        """augment: takes a whole encoded image and a seed, which differs in each epoch; None = plain decoding.

        keep_all: keep all encoded images that were read; None = if `fits`.
        """
        if batch_size % world_size:
            raise ConfigError(
                f"customize.batch_size {batch_size} is not a multiple of {world_size} workers; change one of them"
            )
        check_batch_size(rows, batch_size)
        self.rows, self.batch_size, self.image_size, self.seed = rows, batch_size, image_size, seed
        self.order = Order(rows.block_sizes, batch_size, count_streams(rows, batch_size, streams), seed)
        local = batch_size // world_size
        self.slots, self.num_threads = range(rank * local, (rank + 1) * local), num_threads
        self.max_undecodable = max_undecodable
        self.num_decoded, self.num_undecodable, self.waited_s = 0, 0, 0.0
        self.num_rows, self.steps_per_epoch = self.order.num_rows, self.order.steps_per_epoch
        self.crop, self.interpolation, self.augment = crop, interpolation, augment
        self._keep_pixels = not augment and pixels_bytes(rows, image_size) <= cache_gb * 2**30
        self._keep_all = self._keep_pixels or (fits(rows) if keep_all is None else keep_all)
        self._blocks: dict[int, Block] = {}

    def split(self, num_processes: int) -> list[Batches]:
        """One for each process that fills a part of these slots; no more than there are slots."""
        num_processes = min(num_processes, len(self.slots))
        parts = [copy.copy(self) for _ in range(num_processes)]
        for number, part in enumerate(parts):
            part.slots, part._blocks = self.order.share(self.slots, number, num_processes), {}
        return parts

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
        places = self.order.places(step, self.slots)
        self._load(set(places.block_B.tolist()))
        wanted = list(zip(places.block_B.tolist(), places.row_B.tolist(), strict=True))
        seeds = [_seed(self.seed, epoch, index * self.batch_size + s) for s in self.slots] if self.augment else None
        pixels, found = self._pixels(wanted, seeds)
        rows = [(self._block(block), row) for block, row in found]
        draws = places.draw_B.tolist()
        captions = [_draw(block.captions[row], draw) for (block, row), draw in zip(rows, draws, strict=True)]
        texts = [block.text_ND[row] for block, row in rows if block.text_ND is not None]
        made = Batch(
            step=step,
            epoch=epoch,
            image_BCHW=pixels,
            captions=captions,
            caption_id_B=np.array([caption_id(c) for c in captions], np.int64),
            class_id_B=np.array([block.class_ids[row] for block, row in rows], np.int64),
            pair_id_B=np.array([block.pair_ids[row] for block, row in rows], np.int64),
            text_BD=np.stack(texts) if texts else None,
            matched=[block.matched[row] for block, row in rows if block.matched],
        )
        if not self._keep_all:  # the rows of a block are used by consecutive steps
            used = {block for block, _ in wanted}
            self._blocks = {number: block for number, block in self._blocks.items() if number in used}
        return made

    def _load(self, blocks: set[int]) -> None:
        missing = sorted(blocks - self._blocks.keys())
        if len(missing) > 1:
            with ThreadPoolExecutor(READS_AT_ONCE) as pool:
                self._blocks |= zip(missing, pool.map(partial(load_block, self.rows), missing), strict=True)
        for number in sorted(blocks) if self._keep_pixels else ():
            if (block := self._block(number)).pixels is None:
                own = [(number, row) for row in range(len(block.captions))]
                pixels, found = self._pixels(own, None)
                block.stand_in = {row: at for row, at in enumerate(found) if at != (number, row)}
                block.pixels, block.images = pixels, []

    def _block(self, number: int) -> Block:
        if number not in self._blocks:
            self._blocks[number] = load_block(self.rows, number)
        return self._blocks[number]

    def _pixels(
        self, wanted: list[tuple[int, int]], seeds: list[int] | None
    ) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Pixels of these (block, row), and the rows that they are of: others stand in for those that cannot be
        decoded."""
        blocks = [self._block(block) for block, _ in wanted]
        rows = [row for _, row in wanted]
        if all(block.pixels is not None for block in blocks):
            kept = [block.pixels[row] for block, row in zip(blocks, rows, strict=True)]  # type: ignore[index]
            found = [block.stand_in.get(at[1], at) for block, at in zip(blocks, wanted, strict=True)]
            return np.stack(kept), found
        pixels, bad = self._decode([block.images[row] for block, row in zip(blocks, rows, strict=True)], seeds)
        found = list(wanted)
        for place in bad:
            found[place], pixels[place] = self._other(*wanted[place], seeds and seeds[place : place + 1])
        return pixels, found

    def _other(self, block: int, row: int, seed: list[int] | None) -> tuple[tuple[int, int], np.ndarray]:
        """The first row behind this one, of its block or else of the next ones, whose image can be decoded; its
        pixels."""
        for shift in range(len(self.rows.block_sizes)):
            number = (block + shift) % len(self.rows.block_sizes)
            size = self.rows.block_sizes[number]
            candidates = [(row + i) % size for i in range(1, size)] if not shift else range(size)
            for other in candidates:
                near = self._block(number)
                if near.pixels is not None:
                    return near.stand_in.get(other, (number, other)), near.pixels[other]
                one, failed = self._decode([near.images[other]], seed)
                if not failed:
                    return (number, other), one[0]
        raise PartFailed("no image can be decoded; look at the images of the retrieved pairs")

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


def join(pieces: list[Batch]) -> Batch:
    """The batch whose slots these pieces fill, in their order."""
    if len(pieces) == 1:
        return pieces[0]
    texts = [piece.text_BD for piece in pieces if piece.text_BD is not None]
    return Batch(
        step=pieces[0].step,
        epoch=pieces[0].epoch,
        image_BCHW=np.concatenate([piece.image_BCHW for piece in pieces]),
        captions=[caption for piece in pieces for caption in piece.captions],
        caption_id_B=np.concatenate([piece.caption_id_B for piece in pieces]),
        class_id_B=np.concatenate([piece.class_id_B for piece in pieces]),
        pair_id_B=np.concatenate([piece.pair_id_B for piece in pieces]),
        text_BD=np.concatenate(texts) if texts else None,
        matched=[one for piece in pieces for one in piece.matched],
    )
