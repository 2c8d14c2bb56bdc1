"""The same training batches for any number of workers, from any step on."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from react_ray.errors import ConfigError, PartFailed
from react_ray.training.batches import Batch, Batches, caption_id, join
from react_ray.vectors import as_vectors

SIDE, DIM = 8, 4
SIZES = [7, 9, 1, 12, 5, 6, 8]  # 48 rows


def picture(row: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(row).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class TableRows:
    """Rows that say which they are: `class_id` is the number of the row, and so are the captions and vectors."""

    def __init__(
        self, block_sizes: list[int] = SIZES, columns: tuple[str, ...] = ("class_id", "text_embedding")
    ) -> None:
        self.block_sizes, self.block_bytes = block_sizes, [300 * rows for rows in block_sizes]
        ids = np.arange(sum(block_sizes))
        values: dict[str, Any] = {
            "image": [picture(row) for row in ids],
            "captions": [[f"{row} {i}" for i in range(row % 4)] for row in ids],
            "class_id": pa.array(ids, pa.int32()),
            "text_embedding": as_vectors(np.repeat(ids[:, None], DIM, 1).astype(np.float16)),
        }
        self._table = pa.table({name: values[name] for name in ("image", "captions", *columns)})

    def read(self, block: int) -> pa.Table:
        return self._table.slice(sum(self.block_sizes[:block]), self.block_sizes[block])


ROWS = TableRows()


def batches(rows: TableRows = ROWS, **changes: Any) -> Batches:
    given: dict[str, Any] = {"batch_size": 8, "image_size": SIDE, "seed": 3, "streams": 3}
    return Batches(rows, **given | changes)


def assert_same(first: Batch, second: Batch) -> None:
    assert (first.step, first.epoch, first.captions) == (second.step, second.epoch, second.captions)
    for name in ("image_BCHW", "caption_id_B", "class_id_B", "pair_id_B", "text_BD"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_the_shares_of_all_ranks_are_the_batch_of_one(world_size: int) -> None:
    alone = batches()
    ranks = [batches(rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in range(14):
        assert_same(join([rank.batch(step) for rank in ranks]), alone.batch(step))


@pytest.mark.parametrize("num_processes", [3, 20])
@pytest.mark.parametrize("cache_gb", [0.0, 2.0])
def test_the_parts_of_all_processes_beside_a_worker_are_its_share(num_processes: int, cache_gb: float) -> None:
    whole = batches(rank=1, world_size=2)
    parts = batches(rank=1, world_size=2, cache_gb=cache_gb, keep_all=False).split(num_processes)
    assert len(parts) == min(num_processes, 4)
    for step in range(3, 9):
        assert_same(join([part.batch(step) for part in parts]), whole.batch(step))


def test_a_batch_is_a_function_of_its_step_and_not_of_what_was_read_before() -> None:
    expected = list(batches().iterate(0, 14))
    assert [batch.step for batch in expected] == list(range(14))
    backwards = batches()
    for batch in reversed(expected):
        assert_same(backwards.batch(batch.step), batch)
    for resumed, batch in zip(batches().iterate(5, 14), expected[5:], strict=True):
        assert_same(resumed, batch)
    assert list(batches().iterate(5, 5)) == []


@pytest.mark.parametrize("streams", [0, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("batch_size", [8, 48])
def test_every_row_comes_once_per_epoch_in_another_order_each_time(streams: int, batch_size: int) -> None:
    given = batches(streams=streams, batch_size=batch_size)
    num_steps = 48 // batch_size
    assert given.steps_per_epoch == num_steps
    orders = []
    for epoch in range(3):
        steps = [given.batch(epoch * num_steps + step) for step in range(num_steps)]
        assert {batch.epoch for batch in steps} == {epoch}
        orders.append([int(row) for batch in steps for row in batch.class_id_B])
        assert sorted(orders[-1]) == list(range(48))
    assert len({tuple(order) for order in orders}) == 3


def test_the_rows_that_fill_no_batch_are_others_in_each_epoch() -> None:
    given = batches(batch_size=20)
    assert given.steps_per_epoch == 2
    left_out = []
    for epoch in range(4):
        seen = np.concatenate([given.batch(2 * epoch + step).class_id_B for step in range(2)])
        assert len(np.unique(seen)) == 40
        left_out.append(frozenset(range(48)) - set(seen.tolist()))
    assert len(set(left_out)) == 4


def test_what_belongs_to_a_row_stays_with_it() -> None:
    for batch in batches().iterate(0, 12):
        for i, row in enumerate(batch.class_id_B.tolist()):
            assert batch.captions[i] in ([f"{row} {j}" for j in range(row % 4)] or [""])
            assert batch.caption_id_B[i] == caption_id(batch.captions[i])
            np.testing.assert_array_equal(batch.text_BD[i], np.full(DIM, row))  # type: ignore[index]
    pixels = {}
    for batch in batches(seed=4).iterate(0, 12):
        assert batch.image_BCHW.dtype == np.uint8 and batch.image_BCHW.shape == (8, 3, SIDE, SIDE)
        for image, row in zip(batch.image_BCHW, batch.class_id_B.tolist(), strict=True):
            np.testing.assert_array_equal(pixels.setdefault(row, image), image)
    assert len({image.tobytes() for image in pixels.values()}) == 48


def test_captions_are_drawn_anew_in_each_epoch_and_the_same_in_each_run() -> None:
    def drawn(given: Batches) -> list[dict[int, str]]:
        epochs: list[dict[int, str]] = [{} for _ in range(8)]
        for batch in given.iterate(0, 48):
            epochs[batch.epoch] |= dict(zip(batch.class_id_B.tolist(), batch.captions, strict=True))
        return epochs

    epochs = drawn(batches())
    assert epochs == drawn(batches()) and epochs != drawn(batches(seed=4))
    for row in range(48):
        seen = {epoch[row] for epoch in epochs}
        assert len(seen) == 1 if row % 4 < 2 else len(seen) > 1, row


def test_decoded_images_kept_or_not_are_the_same() -> None:
    for kept, not_kept in zip(batches().iterate(0, 14), batches(cache_gb=0.0).iterate(0, 14), strict=True):
        assert_same(kept, not_kept)
    for threads in batches(num_threads=3).iterate(0, 2):
        assert_same(threads, batches().batch(threads.step))


class DamagedRows(TableRows):
    """Some images are cut off."""

    def __init__(self, damaged: list[int]) -> None:
        super().__init__()
        images = [picture(row)[:60] if row in damaged else picture(row) for row in range(self._table.num_rows)]
        self._table = self._table.set_column(0, "image", pa.array(images))


@pytest.mark.parametrize("cache_gb", [0.0, 2.0])
@pytest.mark.parametrize("world_size", [1, 2])
def test_in_the_place_of_a_damaged_image_stands_a_whole_pair(cache_gb: float, world_size: int) -> None:
    rows, damaged = DamagedRows([3, 4, 20, 47]), [3, 4, 20, 47]
    ranks = [
        batches(rows, cache_gb=cache_gb, max_undecodable=0.01, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    epoch = [join([rank.batch(step) for rank in ranks]) for step in range(6)]
    seen = np.concatenate([batch.class_id_B for batch in epoch])
    assert not set(seen.tolist()) & set(damaged) and len(seen) == 48 and len(set(seen.tolist())) == 44
    whole = batches(TableRows())
    pixels = {
        int(row): image
        for step in range(6)
        for row, image in zip(whole.batch(step).class_id_B, whole.batch(step).image_BCHW, strict=True)
    }
    for batch in epoch:
        for row, image, text_D, caption in zip(
            batch.class_id_B, batch.image_BCHW, batch.text_BD, batch.captions, strict=True
        ):  # type: ignore[arg-type]
            np.testing.assert_array_equal(image, pixels[int(row)])
            assert text_D[0] == row and (not caption or caption.split()[0] == str(row))
    assert sum(rank.num_undecodable for rank in ranks) >= 4


def test_too_many_damaged_images_end_the_run() -> None:
    with pytest.raises(PartFailed, match=r"images cannot be decoded .* more than customize\.max_undecodable=0\.001"):
        list(batches(DamagedRows([3, 4, 20, 47]), max_undecodable=0.001).iterate(0, 6))
    with pytest.raises(PartFailed, match="max_undecodable=0;"):
        list(batches(DamagedRows([3])).iterate(0, 6))


def test_without_classes_and_vectors_there_are_none() -> None:
    batch = batches(TableRows(columns=())).batch(0)
    assert batch.text_BD is None and batch.class_id_B.tolist() == [-1] * 8


@pytest.mark.parametrize(
    "changes, shown",
    [
        ({"batch_size": 49}, "customize.batch_size 49 is larger than the 48 pairs to train on .*; make it smaller"),
        ({"batch_size": 9, "world_size": 2}, "customize.batch_size 9 is not a multiple of 2 workers; change one"),
    ],
)
def test_a_batch_that_cannot_be_made_says_what_to_change(changes: dict[str, int], shown: str) -> None:
    with pytest.raises(ConfigError, match=shown):
        batches(**changes)


def test_equal_captions_and_only_they_have_equal_ids() -> None:
    texts = ["", "a", "b", "a ", "ä", *(f"caption {i}" for i in range(2000))]
    ids = [caption_id(text) for text in texts]
    assert len(set(ids)) == len(texts) and ids == [caption_id(text) for text in texts]
    assert all(0 <= number < 2**63 for number in ids)


def test_an_image_on_which_an_augmentation_fails_unforeseen_is_counted_and_replaced() -> None:
    def augment(image: bytes, seed: int) -> np.ndarray:
        if image == picture(3):
            raise OverflowError("nobody foresaw this")
        return np.zeros((3, SIDE, SIDE), np.uint8)

    made = batches(augment=augment, max_undecodable=0.01)
    classes = Counter(int(row) for batch in made.iterate(0, made.steps_per_epoch) for row in batch.class_id_B)
    assert made.num_undecodable == 1 and 3 not in classes and sum(classes.values()) == sum(SIZES)
