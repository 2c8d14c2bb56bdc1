"""The labelled baseline: labels from the names of drawings, and the nearest picture."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from react_ray.evals.pixel_knn import Labels, run, shrink, slug
from react_ray.evals.zeroshot import summarise


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("top hat", "top-hat"),
        ("Côte d’Ivoire", "cote-divoire"),
        ("Antigua & Barbuda", "antigua-and-barbuda"),
        ("U.S. Virgin Islands", "us-virgin-islands"),
        ("Myanmar (Burma)", "myanmar-burma"),
    ],
)
def test_a_class_name_becomes_the_name_of_its_drawing(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_labels_come_from_the_names_of_drawings() -> None:
    labels = Labels({"objects": ["top hat"], "flags": ["Niger", "Nigeria", "Jordan"]})
    found = {
        ("top-hat", "icon of top hat"): ("objects", "top hat"),
        ("flag-niger", "an emoji"): ("flags", "Niger"),
        ("flag-for-jordan", "jo"): ("flags", "Jordan"),
        ("ng", "flag of Nigeria"): ("flags", "Nigeria"),
        ("ng", "NG flag"): ("flags", "Nigeria"),
        ("ng", "the element"): None,
        ("jordan", "map of jordan"): None,
        ("jordan", "Jordan flag"): ("flags", "Jordan"),
        ("bowler", "hat"): None,
    }
    keys, captions = zip(*found, strict=True)
    assert labels.of(list(keys), list(captions)) == list(found.values())


def picture(colour: tuple[int, int, int, int], width: int = 20) -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (width, 20), colour).save(out, "WEBP", lossless=True)
    return out.getvalue()


def test_transparency_is_white_and_every_picture_has_one_size() -> None:
    out = shrink(pa.chunked_array([[picture((0, 0, 0, 0)), picture((255, 0, 0, 255), width=64)]]), size=4)
    assert out.shape == (2, 48)
    assert (out[0] == 1).all()
    np.testing.assert_array_equal(out[1].reshape(16, 3), np.tile([1.0, 0.0, 0.0], (16, 1)))


def test_the_nearest_drawing_of_the_task_names_the_class(tmp_path) -> None:
    red, dark, blue = (250, 0, 0, 255), (90, 0, 0, 255), (0, 0, 250, 255)
    (tmp_path / "tasks.json").write_text(
        json.dumps({"tasks": {"a": {"classes": ["red", "blue", "green"]}, "b": {"classes": ["dark"]}}})
    )
    pq.write_table(
        pa.table(
            {"image": [picture(red), picture(dark)], "key": ["red", "dark"], "captions": [["red"], ["dark", "x"]]}
        ),
        tmp_path / "base.parquet",
    )
    pq.write_table(
        pa.table({"image": [picture(blue), picture(dark)], "key": ["blue", "other"], "caption": ["b", "o"]}),
        tmp_path / "pool.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "image": [picture((100, 0, 0, 255)), picture((0, 0, 200, 255)), picture(red), picture(red)],
                "task": ["a", "a", "a", "b"],
                "label": ["red", "blue", "green", "dark"],
            }
        ),
        tmp_path / "test.parquet",
    )
    table = run(str(tmp_path), "test")
    assert table["predicted"].to_pylist() == ["red", "blue", "red", "dark"]
    assert table["rank"].to_pylist() == [0, 0, 2, 0]
    assert table["row"].to_pylist() == [0, 1, 2, 3]
    assert summarise(table)[0] == ("test", "a", "top1", 2 / 3, 3)
