"""An evaluation set is read in every layout in which sets are published, or refused before anything is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.labelled import ReadRowGroups, check_set, read_slice, row_groups, slices_of
from react_ray.evals.set_files import open_files
from tests.support.birds import BIRDS, CLASSES, IMAGES, POSITIONS, SIZES, WANTED


def write(path: Path, labels: pa.Array, names: list[str] | None = None, **columns: Any) -> str:
    """A set in Hugging Face's layout; names: what its metadata call the integers."""
    images = pa.array([{"bytes": data, "path": "x.png"} for data in IMAGES])
    table = pa.table({"image": images, "label": labels} | columns)
    if names is not None:
        feature = {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    pq.write_table(table, path)
    return str(path)


def read(source: str, *tasks: TargetTask) -> pa.Table:
    check_set("test", source, list(tasks))
    return pa.concat_tables(read_slice(part, list(tasks)) for part in slices_of("test", source, list(tasks)))


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(WANTED),
        pa.array(WANTED, pa.large_string()),
        pa.array(WANTED).dictionary_encode(),
        pa.array(POSITIONS, pa.int64()),
        pa.array(POSITIONS, pa.uint8()),
        pa.array(POSITIONS, pa.float64()),
        pa.array(POSITIONS, pa.int32()).dictionary_encode(),
    ],
    ids=lambda labels: str(labels.type),
)
def test_names_and_positions_of_any_type_mean_the_same_classes(tmp_path: Path, labels: pa.Array) -> None:
    got = read(write(tmp_path / "a.parquet", labels), BIRDS)
    assert got["label"].to_pylist() == WANTED and got["task"].to_pylist() == ["birds"] * 4
    assert got["image"].to_pylist() == IMAGES and got["row"].to_pylist() == [0, 1, 2, 3]


def test_a_task_of_one_class_cannot_be_scored(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", pa.array(["heron"] * 4))
    with pytest.raises(ConfigError, match=r"test: birds has one class, .* add classes to tell it from, or leave"):
        check_set("test", source, [TargetTask("birds", ("heron",), ("{}",), (("heron",),))])


def test_a_position_means_one_of_two_classes_that_share_a_name_and_a_name_means_either(tmp_path: Path) -> None:
    names = ("missile", "barn owl", "missile")
    twice = TargetTask("things", names, ("a {}",), tuple((name,) for name in names))
    numbers = read(write(tmp_path / "a.parquet", pa.array([0, 1, 2, 2])), twice)
    assert numbers["label"].to_pylist() == ["missile", "barn owl", "missile", "missile"]
    assert numbers["position"].to_pylist() == [0, 1, 2, 2]
    known = read(write(tmp_path / "b.parquet", pa.array([0, 1, 2, 2]), ["missile", "barn_owl", "Missile"]), twice)
    assert known["position"].to_pylist() == [0, 1, 2, 2]
    texts = read(write(tmp_path / "c.parquet", pa.array(["missile", "barn owl", "missile", "missile"])), twice)
    assert texts["label"].equals(numbers["label"]) and texts["position"].to_pylist() == [None] * 4
    other = read(write(tmp_path / "d.parquet", pa.array([2, 1, 0, 2]), ["Barn_owl", "red-fox", "grey heron"]), BIRDS)
    assert other["position"].to_pylist() == [None] * 4, "the file's own numbers are no positions of the recipe"


def test_integers_mean_the_names_that_the_file_gives_them(tmp_path: Path) -> None:
    positions = pa.array([2, 1, 0, 2])
    names = ["Barn_owl", "red-fox", "grey heron"]
    got = read(write(tmp_path / "a.parquet", positions, names), BIRDS)
    assert got["label"].to_pylist() == WANTED
    synonym = TargetTask("birds", CLASSES, ("a {}",), (("grey heron", "Ardea cinerea"), ("barn owl",), ("red fox",)))
    names = ["Barn owl", "red fox", "ardea cinerea"]
    assert read(write(tmp_path / "b.parquet", positions, names), synonym)["label"].to_pylist() == WANTED


def test_names_in_another_language_leave_the_positions_and_contradicting_ones_are_refused(tmp_path: Path) -> None:
    foreign = write(tmp_path / "a.parquet", pa.array(POSITIONS), ["Graureiher", "barn owl", "Rotfuchs"])
    assert read(foreign, BIRDS)["label"].to_pylist() == WANTED
    for names in (["barn owl", "Graureiher", "Rotfuchs"], ["Graureiher", "Schleiereule", "Rotfuchs", "Igel"]):
        with pytest.raises(ConfigError, match=r"labels are no class of task 'birds'.*correct the labels"):
            check_set("test", write(tmp_path / "b.parquet", pa.array(POSITIONS), names), [BIRDS])


def test_a_task_column_splits_the_rows_and_each_task_counts_its_own_positions(tmp_path: Path) -> None:
    tasks = pa.array(["birds", "sizes", "other", "birds"])
    got = read(write(tmp_path / "a.parquet", pa.array([2, 1, 9, 0]), task=tasks), BIRDS, SIZES)
    assert list(zip(got["row"].to_pylist(), got["label"].to_pylist(), strict=True)) == [
        (0, "red fox"),
        (1, "small"),
        (3, "grey heron"),
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([0, 1, 2, 3]), "3 is no position in the 3 classes of task 'birds', which are numbered from 0"),
        (pa.array([0, 1, 2, -1]), "-1 is no position"),
        (pa.array([0, 1, None, 2]), "1 rows have no label; leave these rows out"),
        (pa.array(["red fox", None, None, "barn owl"]), "2 rows have no label"),
        (pa.array([0.0, 1.5, 1.0, 2.0]), "labels are double and not whole"),
        (pa.array([True, False, True, True]), "labels are bool; write class names"),
        (pa.array([[0], [1], [], [0]]), "1 rows have no label; leave these rows out"),
        (pa.array([[0], [1, 3], [2], [0]]), "3 is no position in the 3 classes"),
        (
            pa.array(["red fox", "barn owl", "gray heron", "lynx"]),
            r"2 labels are no class .* did you mean 'grey heron'",
        ),
    ],
)
def test_labels_that_mean_no_class_are_refused_in_one_line(tmp_path: Path, labels: pa.Array, message: str) -> None:
    source = write(tmp_path / "a.parquet", labels)
    with pytest.raises(ConfigError, match=message) as refused:
        check_set("test", source, [BIRDS])
    assert "evaluate.datasets.test" in str(refused.value) and "\n" not in str(refused.value)


def test_missing_columns_are_refused_with_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(ConfigError, match=r"no column `task` .*the recipe has 2 tasks; add a column"):
        check_set("test", write(path, pa.array(POSITIONS)), [BIRDS, SIZES])
    pq.write_table(pa.table({"image": IMAGES, "kind": POSITIONS}), path)
    with pytest.raises(ConfigError, match=r"no column `label`, only image \(binary\), kind \(int64\)"):
        check_set("test", str(path), [BIRDS])
    pq.write_table(pa.table({"picture": ["a", "b"], "label": [0, 1]}), path)
    with pytest.raises(ConfigError, match=r"no column `image` .*picture \(string\).*rename the column"):
        check_set("test", str(path), [BIRDS])
    with pytest.raises(ConfigError, match=r"retrieve.decontaminate: .* has no column `image`"):
        row_groups(str(path))


def test_the_column_of_images_may_have_another_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for name in ("img", "jpg", "picture"):
        pq.write_table(pa.table({name: IMAGES, "label": POSITIONS}), path)
        assert read(str(path), BIRDS)["image"].to_pylist() == IMAGES


def test_a_set_whose_first_images_cannot_be_decoded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [b"<html>", b"", None, b"x"], "label": POSITIONS}), path)
    with pytest.raises(ConfigError, match=r"none of the first 4 images of .* can be decoded \(not an image"):
        check_set("test", str(path), [BIRDS])
    pq.write_table(pa.table({"image": [b"<html>", *IMAGES[1:]], "label": POSITIONS}), path)
    check_set("test", str(path), [BIRDS])


def test_paths_beside_the_set_are_read(tmp_path: Path) -> None:
    for number, data in enumerate(IMAGES):
        (tmp_path / f"{number}.png").write_bytes(data)
    cells = [{"bytes": None, "path": f"{number}.png"} for number in range(4)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    source = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": pa.array(cells, kind), "label": POSITIONS}), source)
    assert read(source, BIRDS)["image"].to_pylist() == IMAGES
    groups = row_groups(source)
    assert ReadRowGroups(groups)(0)["image"].to_pylist() == IMAGES


@pytest.mark.parametrize("group", [1, 3, 4])
def test_a_slice_has_the_images_of_its_labels(tmp_path: Path, group: int) -> None:
    source = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": IMAGES, "label": POSITIONS}), source, row_group_size=group)
    got = read_slice(replace(slices_of("test", source, [BIRDS])[0], start=2), [BIRDS])
    assert got["image"].to_pylist() == IMAGES[2:] and got["label"].to_pylist() == WANTED[2:]
    assert got["row"].to_pylist() == [2, 3]


@pytest.mark.parametrize("group", [1, 7, 100])
def test_a_range_of_rows_is_what_a_slice_of_the_whole_is(tmp_path: Path, group: int) -> None:
    whole = pa.table({"label": [str(row) for row in range(50)], "image": [str(row).encode() for row in range(50)]})
    pq.write_table(whole, tmp_path / "set.parquet", row_group_size=group)
    files = open_files(str(tmp_path / "set.parquet"), "a set")
    for start, count in ((0, 50), (0, 1), (13, 8), (14, 7), (45, 20), (49, 1)):
        wanted = [str(row) for row in range(50)[start : start + count]]
        for some in (files, files.part(start, count)):
            assert some.labels(start, count)["label"].to_pylist() == wanted
            assert [cell.data.decode() for cell in some.images(start, count)] == wanted


def test_a_list_of_labels_gives_an_image_several_classes(tmp_path: Path) -> None:
    found = pa.array([["red fox"], ["barn owl", "grey heron"], ["grey heron", "red fox", "barn owl"], ["red fox"]])
    got = read(write(tmp_path / "a.parquet", found), BIRDS)
    assert got["label"].to_pylist() == ["red fox", "barn owl", "grey heron", "red fox"]
    assert got["also"].to_pylist() == [None, ["grey heron"], ["red fox", "barn owl"], None]
    numbered = read(write(tmp_path / "b.parquet", pa.array([[2], [1, 0], [0, 2, 1], [2]])), BIRDS)
    assert numbered["also"].equals(got["also"]) and numbered["position"].to_pylist() == [2, 1, 0, 2]
    several = {"task": pa.array(["birds", "sizes", "birds", "birds"])}
    mixed = pa.array([["red fox"], ["big"], ["grey heron", "red fox"], ["red fox"]])
    got = read(write(tmp_path / "c.parquet", mixed, **several), BIRDS, SIZES)
    assert got["task"].to_pylist() == several["task"].to_pylist() and got["also"][2].as_py() == ["red fox"]


def test_a_set_that_is_named_as_a_task_has_images_of_this_task(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", pa.array(POSITIONS))
    with pytest.raises(ConfigError, match="has no column `task`"):
        check_set("test", source, [SIZES, BIRDS])
    check_set("birds", source, [SIZES, BIRDS])
    got = pa.concat_tables(read_slice(part, [SIZES, BIRDS]) for part in slices_of("birds", source, [SIZES, BIRDS]))
    assert got["label"].to_pylist() == WANTED and got["task"].to_pylist() == ["birds"] * 4


def test_folders_of_a_built_in_task_may_have_the_identifiers_of_the_published_set(tmp_path: Path) -> None:
    task = replace(BIRDS, identifiers=("n02009229", "n01621127", "n02120079"))
    for number, place in enumerate((0, 2, 1, 0)):
        folder = tmp_path / "val" / task.identifiers[place]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(IMAGES[number])
    got = read(str(tmp_path / "val"), task)
    assert sorted(zip(got["label"].to_pylist(), got["position"].to_pylist(), strict=True)) == [
        ("barn owl", 1),
        ("grey heron", 0),
        ("grey heron", 0),
        ("red fox", 2),
    ]
