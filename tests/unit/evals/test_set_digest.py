"""A set that was replaced in its place is another set, and a copy of it is the same one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from react_ray.evals.labelled import slices_of
from react_ray.evals.set_digest import BLOCK_BYTES, set_digest
from tests.support.birds import BIRDS, CLASSES, IMAGES

LABELS = pa.table({"task": ["birds", "birds"], "label": ["heron", "owl"]})


def class_folders(folder: Path) -> Path:
    for number, (name, image) in enumerate(zip(CLASSES, IMAGES, strict=False)):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{number}.png").write_bytes(image)
    return folder


def digest_of(folder: Path) -> str:
    digests = {part.digest for part in slices_of("test", str(folder), [BIRDS])}
    assert len(digests) == 1
    return digests.pop()


def test_a_copy_elsewhere_at_another_time_is_the_same_set(tmp_path: Path) -> None:
    first = class_folders(tmp_path / "first")
    copy = shutil.copytree(first, tmp_path / "copy")
    (copy / ".DS_Store").write_bytes(b"of a desktop")
    for file in copy.rglob("*.png"):
        os.utime(file, (1, 1))
    assert digest_of(first) == digest_of(copy)


def other_image(folder: Path) -> None:
    file = next(folder.rglob("*.png"))
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert file.stat().st_size == size


def other_class(folder: Path) -> None:
    file = next(folder.rglob("0.png"))
    file.rename(folder / CLASSES[1] / "0.png")


def less(folder: Path) -> None:
    next(folder.rglob("1.png")).unlink()


@pytest.mark.parametrize("change", [other_image, other_class, less])
def test_another_image_label_or_number_is_another_set(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = class_folders(tmp_path / "set")
    before = digest_of(folder)
    change(folder)
    assert digest_of(folder) != before


def test_names_beside_the_images_count_by_what_they_mean(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number, image in enumerate(IMAGES[:3]):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "a.png").write_bytes(image)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    before = digest_of(folder)
    (folder / "classes.txt").write_text("\n".join([CLASSES[1], CLASSES[0], CLASSES[2]]))
    assert digest_of(folder) != before


def test_of_a_large_set_blocks_of_all_files_are_read(tmp_path: Path) -> None:
    sizes = [3 * BLOCK_BYTES, 10, 5 * BLOCK_BYTES + 7, 0, 9 * BLOCK_BYTES]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}.bin").write_bytes(bytes(size))
    before = set_digest(str(tmp_path), LABELS, num_blocks=4)
    assert before == set_digest(str(tmp_path), LABELS, num_blocks=4)
    assert before != set_digest(str(tmp_path), LABELS.slice(1), num_blocks=4)
    with open(tmp_path / "4.bin", "wb") as file:
        file.write(b"x" * sizes[-1])
    assert before != set_digest(str(tmp_path), LABELS, num_blocks=4)
