"""The labelled baseline: labels from the names of drawings, and the nearest picture."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.drawing_labels import Labels, labelled_drawings, slug
from tests.support.scored_run import png


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


def test_the_drawings_of_base_and_pool_are_labelled_by_their_names(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"image": [png(1), png(2)], "key": ["red", "dark"], "caption": [["red"], ["dark", "x"]]}),
        tmp_path / "base.parquet",
    )
    pq.write_table(
        pa.table({"image": [png(3), b"garbage", png(4)], "key": ["blue", "red", "other"], "caption": ["b", "r", "o"]}),
        tmp_path / "pool.parquet",
    )
    found = labelled_drawings(str(tmp_path), [TargetTask("a", ("red", "blue", "green"), ("{}",), ())])
    assert found.num_pictures == 2 and found.of_task["a"][1].tolist() == ["red", "blue"]
    with pytest.raises(ConfigError, match=r"is named like a class of b; leave evaluate.pixel_knn empty$"):
        labelled_drawings(str(tmp_path), [TargetTask("b", ("owl",), ("{}",), ())])
