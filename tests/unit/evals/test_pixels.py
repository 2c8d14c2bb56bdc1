"""1-NN on small pictures: exact distances, ranks of classes, and rows that cannot be decoded."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
from PIL import Image

from react_ray.clip.prompts import TargetTask
from react_ray.evals.pixels import DIM, Neighbours, shrink
from react_ray.evals.zeroshot import summarise


def picture(colour: tuple[int, int, int, int], width: int = 20) -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (width, 20), colour).save(out, "WEBP", lossless=True)
    return out.getvalue()


def task(name: str, *class_names: str) -> TargetTask:
    return TargetTask(name, class_names, ("{}",), tuple((one,) for one in class_names))


def labelled(*rows: tuple[bytes | None, str, str]) -> pa.Table:
    images, tasks, labels = zip(*rows, strict=True)
    return pa.table(
        {
            "image": pa.array(images, pa.binary()),
            "task": tasks,
            "label": labels,
            "row": pa.array(range(len(rows)), pa.int32()),
            "dataset": ["test"] * len(rows),
        }
    )


RED, DARK, BLUE = (250, 0, 0, 255), (90, 0, 0, 255), (0, 0, 250, 255)


def test_transparency_is_white_every_picture_has_one_size_and_garbage_has_none() -> None:
    small_ND, good_N = shrink([picture((0, 0, 0, 0)), b"garbage", None, picture((255, 0, 0, 255), width=64)])
    assert small_ND.shape == (4, DIM) and small_ND.dtype == np.uint8 and good_N.tolist() == [True, False, False, True]
    assert (small_ND[0] == 255).all()
    np.testing.assert_array_equal(small_ND[3].reshape(-1, 3), np.tile([255, 0, 0], (DIM // 3, 1)))


def test_the_nearest_picture_of_the_task_names_the_class() -> None:
    small_ND, _ = shrink([picture(RED), picture(BLUE), picture(DARK), picture((120, 0, 0, 255))])
    known = Neighbours(small_ND, [("a", "red"), ("a", "blue"), ("b", "dark"), ("a", "red")])
    table = labelled(
        (picture((100, 0, 0, 255)), "a", "red"),
        (picture(RED), "b", "dark"),
        (picture((0, 0, 200, 255)), "a", "blue"),
        (picture(RED), "a", "green"),
        (b"garbage", "a", "red"),
    )
    found = known.classify_rows(table, [task("a", "red", "blue", "green"), task("b", "dark")], 2).sort_by("row")
    assert found["predicted"].to_pylist() == ["red", "dark", "blue", "red", None]
    assert found["rank"].to_pylist() == [0, 0, 0, 2, None]
    np.testing.assert_allclose(found["score"][0].as_py(), -((20 / 255) ** 2) / 3, rtol=1e-5)
    assert summarise(found)[0] == ("test", "a", "top1", 0.5, 4)
    assert (known.num_pictures, known.num_bytes) == (4, 4 * DIM)


def test_batches_and_the_order_of_the_pictures_change_nothing() -> None:
    random = np.random.default_rng(0)
    small_ND = random.integers(0, 256, (300, DIM), dtype=np.uint8)
    labels = [("a", f"class {i % 7}") for i in range(300)]
    images = [picture((int(r), int(g), int(b), 255)) for r, g, b in random.integers(0, 256, (40, 3))]
    table = labelled(*((image, "a", f"class {i % 7}") for i, image in enumerate(images)))
    tasks, order = [task("a", *(f"class {i}" for i in range(7)))], random.permutation(300)
    first = Neighbours(small_ND, labels).classify_rows(table, tasks, 1)
    shuffled = Neighbours(small_ND[order], [labels[i] for i in order])
    parts = [shuffled.classify_rows(table.slice(start, 9), tasks, 1) for start in range(0, 40, 9)]
    assert pa.concat_tables(parts).equals(first)


def test_a_task_without_a_picture_is_guessed_and_not_left_out() -> None:
    found = Neighbours(np.empty((0, DIM), np.uint8), []).classify_rows(
        labelled((picture(RED), "a", "blue")), [task("a", "red", "blue")], 1
    )
    assert found["predicted"].to_pylist() == ["red"] and found["rank"].to_pylist() == [1]
