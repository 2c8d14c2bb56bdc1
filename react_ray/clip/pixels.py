"""Decodes images in threads, ahead of the model that takes the batches of uint8 pixels."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from react_ray import schema
from react_ray.pairs.decode_limits import TooLarge, TooSlow
from react_ray.pairs.image import CropMode, Interpolation, decode_rgb
from react_ray.row_guard import unforeseen

ROWS_PER_TASK = 8  # a task costs about 20 microseconds, decoding an image hundreds
AHEAD = 2  # batches that are decoded, or being decoded, while the model has another


def decoded_batches(
    images: Sequence[bytes | None],
    batch_size: int,
    size: int,
    crop: CropMode,
    interpolation: Interpolation,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[np.ndarray, list[str | None]]]:
    """Yields, in order, (uint8 [B, 3, size, size], the status of each row that failed to decode, or None).

    The pixels of a row that failed are zero.
    """
    waiting: deque[tuple[np.ndarray, list[Future[list[str | None]]]]] = deque()

    def decode(pixels_BCHW: np.ndarray, encoded: Sequence[bytes | None]) -> list[str | None]:
        failures: list[str | None] = []
        for row, data in enumerate(encoded):
            try:
                pixels_BCHW[row] = decode_rgb(data, size, crop, interpolation=interpolation)
                failures.append(None)
            except TooLarge:
                failures.append(schema.TOO_LARGE)
            except TooSlow:
                failures.append(schema.TOO_SLOW)
            except ValueError:
                failures.append(schema.UNDECODABLE)
            except Exception as error:
                unforeseen(error)
                failures.append(schema.INTERNAL_ERROR)
        return failures

    def begin(encoded: Sequence[bytes | None]) -> None:
        pixels_BCHW = np.zeros((len(encoded), 3, size, size), np.uint8)
        pieces = [slice(i, i + ROWS_PER_TASK) for i in range(0, len(encoded), ROWS_PER_TASK)]
        waiting.append((pixels_BCHW, [pool.submit(decode, pixels_BCHW[piece], encoded[piece]) for piece in pieces]))

    def finish() -> tuple[np.ndarray, list[str | None]]:
        pixels_BCHW, tasks = waiting.popleft()
        return pixels_BCHW, [failure for task in tasks for failure in task.result()]

    for start in range(0, len(images), batch_size):
        begin(images[start : start + batch_size])
        if len(waiting) > AHEAD:
            yield finish()
    while waiting:
        yield finish()
