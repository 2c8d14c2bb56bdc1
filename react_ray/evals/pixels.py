"""Classifies an image like the nearest of some small pictures: the trivial baseline that every model should beat.

Takes encoded pictures with a task and a class each, and labelled images; gives predictions (schema.PREDICTIONS).
Pictures are shrunk to SIZE x SIZE pixels, and the distance is Euclidean. Values are whole numbers from -128 to 127,
whose sums of products stay below 2 ** 24 and so are exact in float32: a result depends neither on the batch nor on the
machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from PIL import Image

from react_ray import schema
from react_ray.clip.prompts import TargetTask
from react_ray.pairs.image import decode_whole
from react_ray.row_guard import unforeseen

SIZE = 16
DIM = 3 * SIZE * SIZE
IMAGES_AT_ONCE = 256
FARTHEST = float(DIM * 255**2)


def shrink(images: Sequence[bytes | None], num_threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 [N, DIM], antialiased and with transparency on white, and bool [N]: False for no image (black)."""
    small_ND, good_N = np.zeros((len(images), DIM), np.uint8), np.zeros(len(images), bool)

    def one(row: int) -> None:
        try:
            picture = decode_whole(images[row], SIZE)
        except ValueError:
            return
        except Exception as error:
            unforeseen(error)
            return
        small_ND[row] = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).ravel()
        good_N[row] = True

    with ThreadPoolExecutor(num_threads) as pool:  # Pillow releases the GIL while it decodes and resizes
        list(pool.map(one, range(len(images))))
    return small_ND, good_N


class Neighbours:
    """Small pictures with their classes.

    picture_ND: uint8 [N, DIM]. labels: N pairs of (task, class name); pictures of the recipe's other tasks do no harm.
    """

    def __init__(self, picture_ND: np.ndarray, labels: Sequence[tuple[str, str]]) -> None:
        task_N = np.array([task for task, _ in labels], object)
        name_N = np.array([name for _, name in labels], object)
        self.num_bytes, self.num_pictures = picture_ND.nbytes, len(picture_ND)
        self.of_task = {
            task: (_centred(picture_ND[task_N == task]), name_N[task_N == task]) for task in dict.fromkeys(task_N)
        }

    def classify_rows(self, table: pa.Table, tasks: Sequence[TargetTask], num_threads: int) -> pa.Table:
        """Returns schema.PREDICTIONS for a table from `read_slice`, task by task.

        An image that cannot be decoded has no prediction. `score` is minus the mean squared distance, values in [0, 1].
        """
        small_ND, good_N = shrink(table["image"].to_pylist(), num_threads)
        task_N = np.array(table["task"].to_pylist(), object)
        found = [schema.PREDICTIONS.empty_table()]
        for task in tasks:
            rows = np.flatnonzero(task_N == task.name)
            names = list(dict.fromkeys(task.class_names))
            here = table.take(pa.array(rows))
            predicted, distance, rank = self._nearest(small_ND[rows], here["label"].to_pylist(), task.name, names)
            failed = ~good_N[rows]
            found.append(
                pa.table(
                    {
                        "row": here["row"],
                        "dataset": here["dataset"],
                        "task": here["task"],
                        "label": here["label"],
                        "predicted": pa.array(np.array(names, object)[predicted], pa.string(), mask=failed),
                        "score": pa.array((-distance / FARTHEST).astype(np.float32), mask=failed),
                        "rank": pa.array(rank.astype(np.int32), mask=failed),
                    }
                ).cast(schema.PREDICTIONS)
            )
        return pa.concat_tables(found)

    def _nearest(
        self, image_ND: np.ndarray, labels: list[str], task: str, names: list[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns [N] the nearest class, its squared distance, and the number of classes ranked before the true one.

        A class is as far as its nearest picture, and infinitely far without one; of equal ones the first leads.
        """
        position = {name: i for i, name in enumerate(names)}
        distance_NC = np.full((len(image_ND), len(names)), np.inf)
        picture_MD, name_M = self.of_task.get(task, (np.empty((0, DIM), np.float32), np.empty(0, object)))
        known = np.array([position.get(name, -1) for name in name_M], int)
        order = np.argsort(known, kind="stable")
        order = order[known[order] >= 0]
        picture_MD, owner_M = picture_MD[order], known[order]
        squares_M = (picture_MD**2).sum(axis=1).astype(int)
        first = np.flatnonzero(np.diff(owner_M, prepend=-1))
        for start in range(0, len(image_ND) if len(owner_M) else 0, IMAGES_AT_ONCE):
            block = _centred(image_ND[start : start + IMAGES_AT_ONCE])
            squares = (block**2).sum(axis=1).astype(int)[:, None] + squares_M - 2 * (block @ picture_MD.T).astype(int)
            distance_NC[start : start + IMAGES_AT_ONCE, owner_M[first]] = np.minimum.reduceat(squares, first, axis=1)
        label_N1 = np.array([position[label] for label in labels], int)[:, None]
        own_N1 = np.take_along_axis(distance_NC, label_N1, axis=1)
        before = (distance_NC < own_N1) | ((distance_NC == own_N1) & (np.arange(len(names)) < label_N1))
        return distance_NC.argmin(axis=1), distance_NC.min(axis=1), before.sum(axis=1)


def _centred(small_ND: np.ndarray) -> np.ndarray:
    return small_ND.astype(np.float32) - 128
