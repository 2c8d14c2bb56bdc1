"""Before anything is trained, a training set has what will be drawn of it; its errors name its own field."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.config import EvaluateConfig
from react_ray.evals.labelled import check_shots
from react_ray.evals.set_name import field_of, training_set
from tests.support.scored_run import labelled_set, png

BIRDS = TargetTask("birds", ("heron", "owl", "accordion"), ("{}",), (("heron",), ("owl",), ("accordion",)))
FOOD = TargetTask("food", ("pie", "soup"), ("{}",), (("pie",), ("soup",)))


def config(folder: Path, *shots: int | str, train: str = "") -> EvaluateConfig:
    test = labelled_set(folder / "test.parquet", 6)
    train = train or labelled_set(folder / "train.parquet", 12)
    return EvaluateConfig(datasets={"test": test}, train={"test": train}, shots=list(shots))


def test_enough_images_pass_and_so_does_a_recipe_that_draws_nothing(tmp_path: Path) -> None:
    check_shots(config(tmp_path, 1, 4, "all"), [BIRDS])
    check_shots(EvaluateConfig(datasets={"test": "nowhere"}, train={"test": "nowhere"}), [BIRDS])


def test_more_shots_than_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.train\.test: 5 shots .* class 'heron' has 4 labelled images;"):
        check_shots(config(tmp_path, 1, 5), [BIRDS])


def test_a_task_that_is_tested_without_a_training_image_is_refused(tmp_path: Path) -> None:
    table = pa.table({"image": [png(0), png(1)], "label": ["heron", "pie"], "task": ["birds", "food"]})
    pq.write_table(table, tmp_path / "both.parquet")
    train = pq.read_table(labelled_set(tmp_path / "birds.parquet", 6))
    pq.write_table(train.append_column("task", pa.array(["birds"] * 6)), tmp_path / "birds.parquet")
    sets = {"datasets": {"test": str(tmp_path / "both.parquet")}, "train": {"test": str(tmp_path / "birds.parquet")}}
    with pytest.raises(ConfigError, match="1 shot is asked for of each class, and the class 'pie' has 0 labelled"):
        check_shots(EvaluateConfig(**sets, shots=["all"]), [BIRDS, FOOD])
    check_shots(EvaluateConfig(**sets, shots=["all"]), [BIRDS])  # rows of tasks that the recipe does not have


def test_a_set_that_is_named_as_its_task_is_learned_from_images_of_this_task(tmp_path: Path) -> None:
    uri = labelled_set(tmp_path / "birds.parquet", 6)
    check_shots(EvaluateConfig(datasets={"birds": uri}, train={"birds": uri}, shots=["all"]), [BIRDS, FOOD])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["stork"] * 4, r"evaluate\.train\.test: 1 labels are no class of task 'birds': 'stork'"),
        ([0, 1, 2, 7], r"evaluate\.train\.test: 7 is no position in the 3 classes"),
        (["owl", None, "owl", "owl"], r"evaluate\.train\.test: 1 rows have no label"),
    ],
)
def test_what_is_wrong_with_a_training_set_names_its_field(tmp_path: Path, labels: list, message: str) -> None:
    pq.write_table(pa.table({"image": [png(i) for i in range(4)], "label": labels}), tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match=message):
        check_shots(config(tmp_path, 1, train=str(tmp_path / "train.parquet")), [BIRDS])


def test_an_image_of_several_labels_counts_for_each_of_them(tmp_path: Path) -> None:
    labels = [["heron", "owl"], ["owl"], ["accordion"]]
    pq.write_table(pa.table({"image": [png(i) for i in range(3)], "label": labels}), tmp_path / "train.parquet")
    check_shots(config(tmp_path, 1, train=str(tmp_path / "train.parquet")), [BIRDS])
    with pytest.raises(ConfigError, match=r"2 shots are asked for of each class, and the class 'heron' has 1 labelled"):
        check_shots(config(tmp_path, 2, train=str(tmp_path / "train.parquet")), [BIRDS])


def test_a_set_to_train_on_has_its_own_name_and_field() -> None:
    assert field_of("test") == "evaluate.datasets.test" and field_of(training_set("test")) == "evaluate.train.test"
    with pytest.raises(ValueError, match=r"datasets\.train\.a has the name of the set to train on; rename it"):
        EvaluateConfig(datasets={"a": "x", "train.a": "y"}, train={"a": "z"})
