"""Sets of other protocols are checked before anything is trained, and the fields that name them are in the errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ReactRayError
from react_ray.evals.check_sets import check_other_sets
from react_ray.evals.config import EvaluateConfig
from react_ray.evals.set_places import set_places
from tests.support.scenes import write_scenes

TASKS = [TargetTask(name, ("heron", "owl"), ("a {}.",), (("heron",), ("owl",))) for name in ("birds", "more")]


def check(**sets: Any) -> None:
    check_other_sets(EvaluateConfig.model_validate(sets), TASKS)


def test_what_can_be_read_and_fits_its_task_passes(tmp_path: Path) -> None:
    write_scenes(tmp_path, 3, ["heron", "owl"])
    boxes = str(tmp_path / "annotations.json")
    check()
    check(
        captions={"test": "sample://test.parquet"},
        segmentation={"birds": str(tmp_path)},
        detection={"birds": boxes, "more.small": boxes},
    )


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"captions": {"a": "/nowhere/set.parquet"}}, "^evaluate.captions.a: .*/nowhere/set.parquet"),
        ({"captions": {"a": "/nowhere/dataset_coco.json#val"}}, "/nowhere/dataset_coco.json"),
        (
            {"segmentation": {"birds": "/nowhere/voc#val"}},
            "^evaluate.segmentation.birds: /nowhere/voc has no PNG files",
        ),
        (
            {"segmentation": {"voc": "/nowhere"}},
            "^evaluate.segmentation.voc: the recipe has 2 tasks; give the set the name",
        ),
        ({"detection": {"birds": "/nowhere/boxes.json"}}, "/nowhere/boxes.json"),
        ({"proposals": {"birds": "/a.json"}}, "^evaluate.proposals.birds: evaluate.detection has no set of this name"),
    ],
)
def test_what_cannot_be_read_is_named(sets: dict[str, Any], said: str) -> None:
    with pytest.raises(ReactRayError, match=said):
        check(**sets)


def test_the_places_of_all_sets_are_known_without_their_splits() -> None:
    config = EvaluateConfig(
        datasets={"test": "/a.parquet"},
        captions={"coco": "/coco/dataset_coco.json#val", "own": "/own.parquet"},
        segmentation={"voc": "/voc#val"},
        detection={"boxes": "/coco/annotations/instances.json"},
        proposals={"boxes": "/proposals.json"},
    )
    assert set(set_places(config)) == {
        *("/a.parquet", "/coco", "/own.parquet", "/voc", "/coco/annotations/instances.json", "/proposals.json"),
    }
