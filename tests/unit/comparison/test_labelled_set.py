"""Each set has its own classes: those that are given, those of the run, or those that the set names itself."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.comparison.labelled_set import Classes, LabelledSet, labelled_sets, named_values
from react_ray.errors import ConfigError
from tests.support.compared import class_folders, finished_run, noise

BIRDS = ["heron", "002.Barn_Owl", "magpie"]


def opened(
    on: dict[str, str],
    off: dict[str, str] | None = None,
    files: dict[str, str] | None = None,
    runs: tuple[str, ...] = (),
    templates: tuple[str, ...] = (),
) -> list[LabelledSet]:
    return labelled_sets(on, off or {}, Classes(files or {}, {}, templates), runs)


def parquet(path: Path, labels: list[str] | list[int]) -> str:
    pq.write_table(pa.table({"image": [noise(n) for n in range(len(labels))], "label": labels}), path)
    return str(path)


def test_folders_name_the_classes(tmp_path: Path) -> None:
    [birds] = opened({"birds": class_folders(tmp_path / "birds", BIRDS)}, templates=("a drawing of a {}.",))
    assert birds.tasks[0].class_names == ("Barn Owl", "heron", "magpie")
    assert birds.tasks[0].templates == ("a drawing of a {}.",)
    assert sum(one.files.num_rows for one in birds.slices) == 24


def test_texts_of_labels_name_the_classes(tmp_path: Path) -> None:
    [food] = opened({"food": parquet(tmp_path / "food.parquet", ["pie", "soup", "pie"])})
    assert food.tasks[0].class_names == ("pie", "soup")


def test_a_column_of_tasks_has_the_classes_of_each_and_lists_of_labels_name_classes_too(tmp_path: Path) -> None:
    images = [noise(number) for number in range(5)]
    tasks, labels = ["food", "birds", "food", "birds", "food"], ["pie", "crane", "soup", "heron", "pie"]
    pq.write_table(pa.table({"image": images, "label": labels, "task": tasks}), tmp_path / "mixed.parquet")
    [mixed] = opened({"mixed": str(tmp_path / "mixed.parquet")})
    assert {task.name: task.class_names for task in mixed.tasks} == {
        "birds": ("crane", "heron"),
        "food": ("pie", "soup"),
    }
    several = pa.table({"image": images[:2], "label": [["dog", "person"], ["cat"]]})
    pq.write_table(several, tmp_path / "several.parquet")
    assert opened({"several": str(tmp_path / "several.parquet")})[0].tasks[0].class_names == ("cat", "dog", "person")


def test_a_target_has_the_classes_of_the_run_and_an_off_target_set_its_own(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    birds, food = opened(
        {"birds": class_folders(tmp_path / "birds", ["heron", "Barn_Owl"])},
        {"food": class_folders(tmp_path / "food", ["pie", "soup"])},
        runs=(f"{run}/model",),
    )
    assert birds.tasks[0].class_names == ("heron", "barn owl", "magpie") and not birds.off_target
    assert birds.tasks[0].templates == ("a sketch of a {}.",)
    assert food.tasks[0].class_names == ("pie", "soup") and food.off_target


def test_classes_are_given_for_all_sets_or_for_one(tmp_path: Path) -> None:
    for name, lines in (("birds", "heron\nbarn owl | strix\nmagpie\n"), ("food", "pie\nsoup\nsalad\n")):
        (tmp_path / f"{name}.txt").write_text(lines)
    uris = {name: parquet(tmp_path / f"{name}.parquet", [0, 1, 2]) for name in ("birds", "food")}
    files = {"": str(tmp_path / "birds.txt"), "food": str(tmp_path / "food.txt")}
    birds, food = opened(uris, files=files)
    assert birds.tasks[0].synonyms[1] == ("barn owl", "strix") and food.tasks[0].class_names[2] == "salad"


def webdataset(root: Path, templates: str = "") -> str:
    """CLIP_benchmark's layout, with numbers in .cls."""
    (root / "test").mkdir(parents=True)
    (root / "classnames.txt").write_text("heron\nbarn owl\nmagpie\n")
    if templates:
        (root / "zeroshot_classification_templates.txt").write_text(templates)
    with tarfile.open(root / "test" / "0.tar", "w") as tar:
        for number in range(6):
            for suffix, data in (("png", noise(number)), ("cls", str(number % 2).encode())):
                member = tarfile.TarInfo(f"s{number:07d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return str(root)


@pytest.mark.parametrize("below", ["", "/test", "/test/*.tar", "/test/0.tar"])
def test_a_set_of_clip_benchmark_has_its_own_classes_and_templates(below: str, tmp_path: Path) -> None:
    root = webdataset(tmp_path / "wds", "a drawing of a {c}.\n{c}\n")
    [birds] = opened({"birds": root + below})
    assert birds.tasks[0].class_names == ("heron", "barn owl", "magpie")
    assert birds.tasks[0].templates == ("a drawing of a {}.", "{}")
    [birds] = opened({"birds": root + below}, templates=("{}!",))
    assert birds.tasks[0].templates == ("{}!",)


def test_classes_that_are_given_are_asked_for_as_the_run_does_unless_off_target(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("heron\nbarn owl\nmagpie\n")
    uris = [parquet(tmp_path / f"{name}.parquet", [0, 1, 2]) for name in ("birds", "others")]
    files, run = {"": str(tmp_path / "classes.txt")}, f"{finished_run(tmp_path)}/model"
    birds, others = opened({"birds": uris[0]}, {"others": uris[1]}, files, (run,))
    assert birds.tasks[0].templates == ("a sketch of a {}.",) and others.tasks[0].templates == ("a photo of a {}.",)


def test_what_a_set_lacks_is_told_by_its_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened({"birds": webdataset(tmp_path / "wds")})
    assert "--on birds has no images of 1 of 3 classes (magpie)" in capsys.readouterr().err


def test_a_set_of_one_of_several_tasks_has_its_name(tmp_path: Path) -> None:
    given = {"tasks": {name: {"classes": ["a", "b"], "templates": ["{}"]} for name in ("birds", "food")}}
    (tmp_path / "tasks.json").write_text(json.dumps(given))
    files, uri = {"": str(tmp_path / "tasks.json")}, parquet(tmp_path / "x.parquet", ["a", "b"])
    assert opened({"food": uri}, files=files)[0].slices
    with pytest.raises(ConfigError, match=r"--on x: there are 2 tasks, .* the name of its task"):
        opened({"x": uri}, files=files)


def test_names_and_values_are_taken_apart() -> None:
    assert named_values(["a=x/y=z.txt", "b=s3://c/d"], "--on") == {"a": "x/y=z.txt", "b": "s3://c/d"}
    assert named_values(["/data/birds/", "test.parquet"], "--on") == {"birds": "/data/birds/", "test": "test.parquet"}
    assert named_values(["f.txt", "a=g.txt", "k=v.txt"][:2], "--classes", ["a"]) == {"": "f.txt", "a": "g.txt"}
    assert named_values(["k=v.txt"], "--classes", ["a"]) == {"": "k=v.txt"}
    with pytest.raises(ConfigError, match="there is a value of a already; give one, or another NAME="):
        named_values(["a=x", "a=y"], "--on")


def test_a_set_that_cannot_be_scored_is_refused_by_its_option(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    numbers = parquet(tmp_path / "numbers.parquet", [0, 1, 1])
    birds = class_folders(tmp_path / "birds", ["heron", "magpie"])
    for said, given in {
        "compare: there is no labelled set; name one with --on NAME=URI": {"on": {}},
        "--on numbers: the set does not name its classes; give them by --classes FILE": {"on": {"numbers": numbers}},
        "compare: two sets are named birds; give one of them another NAME=": {
            "on": {"birds": birds},
            "off": {"birds": birds},
        },
        "--off-target gone: ": {"on": {"birds": birds}, "off": {"gone": str(tmp_path / "gone")}},
        "--on test: 2 labels are no class of task 'birds': 'dog', 'heeron'; ": {
            "on": {"test": parquet(tmp_path / "test.parquet", ["heeron", "dog"])},
            "runs": (f"{run}/model",),
        },
    }.items():
        with pytest.raises(ConfigError, match="^" + re.escape(said)) as raised:
            opened(**given)  # type: ignore[arg-type]
        assert "evaluate." not in str(raised.value)
