"""Labels and tasks of every type: what they mean, and a refusal in one line for those that mean nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.labelled import class_ids, read_slice, slices_of
from tests.campaign.case import complaint_about
from tests.support.scored_run import png

NAMES = ("heron", "owl", "crane")
BIRDS = TargetTask("birds", NAMES, ("a {}.",), tuple((name,) for name in NAMES))


def written(folder: Path, label: Any, **columns: Any) -> str:
    path = folder / "set.parquet"
    images = [png(number) for number in range(len(label))]
    pq.write_table(pa.table({"image": images, "label": label} | columns), path)
    return str(path)


@pytest.mark.parametrize(
    ("label", "columns", "message"),
    [
        (["9" * 5000], {}, "1 labels are no class of task 'birds': '9999.*correct the labels"),
        ([[["heron", "owl"]], [["owl"]]], {}, "its labels are list<.*; write one list of names for each image"),
        ([["heron"], []], {}, "1 rows have no label; leave these rows out"),
        (["heron", "owl"], {"task": ["birds", None]}, "1 rows have no task; name it, or leave these rows out"),
        (["heron"], {"task": [1]}, "its column `task` is int64; write names of tasks, such as birds"),
        (["heron"], {"task": [["birds"]]}, "its column `task` is list<.*; write names of tasks, such as birds"),
        ([0.0, float("nan")], {}, "its labels are double and not whole .*; write class names, or positions"),
        ([0, -1], {}, "-1 is no position in the 3 classes of task 'birds', which are numbered from 0; correct"),
    ],
)
@pytest.mark.parametrize("field", ["evaluate.datasets.test", "customize.labelled"])
def test_labels_that_mean_nothing_are_refused_by_the_name_of_their_field(
    tmp_path: Path, label: Any, columns: dict[str, Any], message: str, field: str
) -> None:
    uri = written(tmp_path, label, **columns)
    with pytest.raises(ConfigError, match=rf"^{field}: {message}") as refused:
        slices_of("test", uri, [BIRDS]) if field.startswith("evaluate") else class_ids(uri, [BIRDS])
    assert not complaint_about(str(refused.value))


def test_rows_of_other_tasks_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = written(tmp_path, ["heron", "owl", "crane", "jet"], task=["birds", "birds", "birds", "pla\nnes"])
    [part] = slices_of("test", uri, [BIRDS])
    assert read_slice(part, [BIRDS]).num_rows == 3
    told = "evaluate.datasets.test: 1 of 4 rows are of tasks that are none of the recipe's (pla nes), and are left out"
    assert capsys.readouterr().err == f"{told}\n"
