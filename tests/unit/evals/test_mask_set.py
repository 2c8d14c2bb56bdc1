"""Folders of images and masks: VOC, ADE20K, COCO-Stuff and one's own; what is wrong with them is said in one line."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.mask_set import MaskSet, open_masks

NAME = "evaluate.segmentation.animals"


def task(*names: str) -> TargetTask:
    return TargetTask("animals", names, ("a {}.",), tuple(() for _ in names))


ANIMALS = task("dog", "cat", "owl")


def write(folder: Path, path: str, values: list[list[int]], palette: bool = False) -> None:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.array(values, np.uint8))
    if palette:
        picture = picture.convert("P")
        picture.putdata(np.array(values, np.uint8).ravel())
    picture.save(place)


def image(folder: Path, path: str, width: int = 3, height: int = 2) -> None:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (200, 10, 10)).save(place)


def labels(found: MaskSet, row: int = 0) -> list[list[int]]:
    [one] = found.read(row, 1).to_pylist()
    return found.labels(one["file"], one["mask"], one["image"]).tolist()


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        image(tmp_path, f"JPEGImages/{name}.jpg")
        write(tmp_path, f"SegmentationClass/{name}.png", [[0, 1, 2], [3, 255, 0]], palette=True)
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("a\nc\n")
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("b\n")
    return tmp_path


def test_voc_numbers_classes_from_1_and_0_is_background_if_that_is_a_class(voc: Path) -> None:
    found = pickle.loads(pickle.dumps(open_masks(f"{voc}#val", NAME, ANIMALS)))
    assert found.masks == ("SegmentationClass/a.png", "SegmentationClass/c.png")
    assert found.images == ("JPEGImages/a.jpg", "JPEGImages/c.jpg")
    assert labels(found) == [[-1, 0, 1], [2, -1, -1]]
    with_background = open_masks(f"{voc}#train", NAME, task("background", "dog", "cat", "owl"))
    assert labels(with_background) == [[0, 1, 2], [3, -1, 0]]


def test_a_split_must_be_named_where_there_are_several(voc: Path) -> None:
    for source in (str(voc), f"{voc}#test"):
        with pytest.raises(ConfigError, match=rf"^{NAME}: .* has the splits train, val; name one, such as .*#val$"):
            open_masks(source, NAME, ANIMALS)
    (voc / "ImageSets/Segmentation/val.txt").write_text("a\nd\n")
    with pytest.raises(ConfigError, match=r"val.txt names d, which has no mask; put it there, or take it out"):
        open_masks(f"{voc}#val", NAME, ANIMALS)


def test_ade_numbers_classes_from_1_and_coco_stuff_from_0(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        image(tmp_path / "ade", f"images/{split}/a.jpg")
        write(tmp_path / "ade", f"annotations/{split}/a.png", [[0, 1, 2], [3, 3, 255]])
    assert labels(open_masks(f"{tmp_path}/ade#validation", NAME, ANIMALS)) == [[-1, 0, 1], [2, 2, -1]]
    image(tmp_path / "stuff", "images/val2017/a.jpg")
    write(tmp_path / "stuff", "annotations/val2017/a_labelTrainIds.png", [[0, 1, 2], [2, 2, 255]])
    assert labels(open_masks(f"{tmp_path}/stuff", NAME, ANIMALS)) == [[0, 1, 2], [2, 2, -1]]


def test_a_file_of_names_says_what_numbers_mean(tmp_path: Path) -> None:
    image(tmp_path, "pictures/a.jpg")
    write(tmp_path, "masks/a.png", [[7, 9, 7], [0, 0, 255]])
    with pytest.raises(ConfigError, match=r"nothing says what the numbers .* mean; write a classes.txt .* `0 dog`"):
        open_masks(str(tmp_path), NAME, ANIMALS)
    (tmp_path / "classes.txt").write_text("0 nothing\n7 Cat\n9 owl\n")
    assert labels(open_masks(str(tmp_path), NAME, ANIMALS)) == [[1, 2, 1], [-1, -1, -1]]
    (tmp_path / "classes.txt").write_text("0 nothing\n7 cat\n7 dog\n9 owl\n")
    with pytest.raises(ConfigError, match=r"two lines of .*classes.txt begin with the same number; correct one"):
        open_masks(str(tmp_path), NAME, ANIMALS)
    (tmp_path / "classes.txt").write_text("0 lamp\n7 chair\n")
    with pytest.raises(ConfigError, match=r"no line of .*classes.txt names a class of task animals; correct the names"):
        open_masks(str(tmp_path), NAME, ANIMALS)


def test_a_mask_that_does_not_fit_is_named(voc: Path) -> None:
    found = open_masks(f"{voc}#val", NAME, ANIMALS)
    for values, what in (
        ([[0, 1], [2, 3]], r"a.png: the mask is 2 x 2 pixels and its image 3 x 2; write a mask of the size"),
        ([[0, 1, 4], [0, 0, 0]], r"a.png: the mask has the number 4, which means no class; correct it"),
        ([[[0, 0, 0]] * 3] * 2, r"a.png: the mask is a picture in colours \(PNG, RGB\); write numbers of classes"),
    ):
        write(voc, "SegmentationClass/a.png", values)
        with pytest.raises(ConfigError, match=what):
            labels(found)
    for data in (b"no mask", b"", huge_png()):
        (voc / "SegmentationClass/a.png").write_bytes(data)
        with pytest.raises(ConfigError, match=r"a.png: the mask cannot be read \([^<]*\); write it again"):
            labels(found)
    Image.new("L", (3, 2)).save(voc / "SegmentationClass/a.png", "JPEG")
    with pytest.raises(ConfigError, match=r"in colours \(JPEG, L\); write numbers of classes as a PNG of one channel"):
        labels(found)


def huge_png() -> bytes:
    """The header of 900 million pixels, which fit into a megabyte."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_a_mask_without_an_image_is_named_and_an_image_without_a_mask_is_not_scored(voc: Path) -> None:
    image(voc, "JPEGImages/more.jpg")
    assert len(open_masks(f"{voc}#val", NAME, ANIMALS).masks) == 2
    (voc / "JPEGImages/c.jpg").unlink()
    with pytest.raises(ConfigError, match=r"the mask SegmentationClass/c.png in .* has no images of its name"):
        open_masks(f"{voc}#val", NAME, ANIMALS)
    with pytest.raises(ConfigError, match="has no PNG files in a folder SegmentationClass, annotations, masks"):
        open_masks(str(voc / "JPEGImages"), NAME, ANIMALS)


def test_an_image_that_cannot_be_read_leaves_its_mask(voc: Path) -> None:
    found = open_masks(f"{voc}#val", NAME, ANIMALS)
    [one] = found.read(0, 1).to_pylist()
    buffer = io.BytesIO()
    Image.new("L", (1, 1), 3).save(buffer, "PNG")
    assert found.labels(one["file"], buffer.getvalue(), b"no image").tolist() == [[2]]


def test_masks_that_were_replaced_have_another_digest(voc: Path) -> None:
    before = open_masks(f"{voc}#val", NAME, ANIMALS).digest
    write(voc, "SegmentationClass/a.png", [[0, 1, 2], [3, 0, 0]])
    assert open_masks(f"{voc}#val", NAME, ANIMALS).digest != before
