"""An evaluation set may be class folders, a table beside its images, tars or Arrow, however its names are spelled."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.labelled import ReadRowGroups, check_set, read_slice, row_groups, slices_of
from react_ray.evals.set_files import open_files
from tests.support.birds import BIRDS as PLAIN_BIRDS
from tests.support.birds import IMAGES, POSITIONS, SIZES, WANTED, picture

BIRDS = replace(PLAIN_BIRDS, synonyms=(("grey heron", "Ardea cinerea"), ("barn owl",), ("red fox",)))


def folders(root: Path, *names: str) -> str:
    """One image in each folder, in order."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / f"{number}.png").write_bytes(picture(number))
    return str(root)


def tar(path: Path, **members: list[str]) -> str:
    """Samples of an image and texts; members: suffix -> the text of each sample."""
    with tarfile.open(path, "w") as file:
        for number, data in enumerate(IMAGES):
            texts = {suffix: some[number].encode() for suffix, some in members.items()}
            for suffix, content in ({"png": data} | texts).items():
                info = tarfile.TarInfo(f"s{number}.{suffix}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return str(path)


def table(root: Path, name: str, text: str) -> str:
    (root / "images").mkdir()
    for number, data in enumerate(IMAGES):
        (root / "images" / f"{number}.png").write_bytes(data)
    (root / name).write_text(text)
    return str(root / name)


def read(source: str, *tasks: TargetTask, most: float = 0.05) -> pa.Table:
    check_set("test", source, list(tasks), most)
    parts = pickle.loads(pickle.dumps(slices_of("test", source, list(tasks), most)))
    return pa.concat_tables(read_slice(part, list(tasks)) for part in parts)


def labels(got: pa.Table) -> dict[bytes, str]:
    return dict(zip(got["image"].to_pylist(), got["label"].to_pylist(), strict=True))


def is_whole(got: pa.Table) -> bool:
    return labels(got) == dict(zip(IMAGES, WANTED, strict=True)) and got["task"].to_pylist() == ["birds"] * 4


@pytest.mark.parametrize(
    "names",
    [
        WANTED,
        ["Grey_Heron", "RED-FOX", "barn_owl", "Ardea_cinerea"],
        ["001.Grey_Heron", "03-red_fox", "n01514668-barn_owl", "1 grey heron"],
        ["images/Grey Heron/a", "images/red fox", "images/barn owl/b/c", "images/grey heron"],
        ["0", "2", "1", "0"],
    ],
    ids=["as they are", "spelled", "numbered", "deep", "positions"],
)
def test_a_folder_of_class_folders_is_a_set(tmp_path: Path, names: list[str]) -> None:
    assert is_whole(read(folders(tmp_path, *names), BIRDS))


def test_a_split_is_a_set_and_several_are_refused(tmp_path: Path) -> None:
    folders(tmp_path / "val", *WANTED)
    assert is_whole(read(str(tmp_path), BIRDS)) and is_whole(read(str(tmp_path / "val"), BIRDS))
    folders(tmp_path / "train", *WANTED)
    with pytest.raises(ConfigError, match=r"evaluate.datasets.test: .* has the splits train, val; name the one"):
        check_set("test", str(tmp_path), [BIRDS])
    assert is_whole(read(str(tmp_path / "val"), BIRDS)) and is_whole(read(f"{tmp_path}/val/*/*.png", BIRDS))


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (("data/train-00000-of-00002.tar", "data/test-00000-of-00001.tar"), "data/test*.tar"),
        (("train/0.tar", "test/0.tar"), "test"),
        (("train.tar", "val.tar"), "val*.tar"),
    ],
)
def test_files_of_several_splits_are_no_set(files: tuple[str, str], named: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tar(tmp_path / name, cls=WANTED)
    with pytest.raises(
        ConfigError, match=rf"the splits \w+, \w+; name the one to score on, such as {tmp_path}/"
    ) as raised:
        check_set("test", str(tmp_path), [BIRDS])
    assert str(raised.value).endswith(f"{tmp_path}/{named}")
    assert is_whole(read(f"{tmp_path}/{named}", BIRDS))
    assert len(row_groups(str(tmp_path))) == 2  # both splits are to be kept out of what is retrieved


def test_a_class_may_be_called_as_a_split(tmp_path: Path) -> None:
    rail = TargetTask("rail", ("train", "test"), ("a {}",), (("train",), ("test",)))
    got = read(folders(tmp_path, "train", "test"), rail)
    assert labels(got) == {IMAGES[0]: "train", IMAGES[1]: "test"}


def test_folders_of_no_class_are_counted_and_refused_beyond_a_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folders(tmp_path, "grey heron", "red fox", "barn owl", "clutter")
    with pytest.raises(ConfigError, match=r"1 of 4 images lie in 1 folders that are no class: clutter \(1\); correct"):
        check_set("test", source, [BIRDS])
    got = read(source, BIRDS, most=0.25)
    assert got["label"].to_pylist() == ["barn owl", "grey heron", "red fox"] and got["row"].to_pylist() == [0, 2, 3]
    assert "clutter (1); they are left out" in capsys.readouterr().err


def test_identifiers_of_wordnet_are_refused_unless_a_file_says_what_they_mean(tmp_path: Path) -> None:
    source = folders(tmp_path / "val", "n02009229", "n02119022", "n01622779", "n02009229")
    with pytest.raises(ConfigError, match=r"n0\d+ is an identifier of WordNet: .* classes.txt beside the set"):
        check_set("test", source, [BIRDS])
    lines = "n02009229 little heron, Ardea cinerea\nn02119022\tred fox, Vulpes vulpes\nn01622779,barn owl\n"
    (tmp_path / "synset_words.txt").write_text(lines)
    assert is_whole(read(source, BIRDS))


def test_identifiers_with_one_line_for_each_class_are_positions_whatever_their_other_names(tmp_path: Path) -> None:
    source = folders(tmp_path / "val", "n02009229", "n03773504", "n04008634", "n01622779")
    lines = "n02009229 crane\nn03773504 missile\nn01622779 barn owl\nn04008634 projectile, missile\n"
    (tmp_path / "LOC_synset_mapping.txt").write_text(lines)
    names = ("crane bird", "missile", "barn owl", "missile")
    task = TargetTask("things", names, ("a {}",), tuple((name,) for name in names))
    got = read(source, task)
    assert dict(zip(got["image"].to_pylist(), got["position"].to_pylist(), strict=True)) == dict(
        zip(IMAGES, (0, 1, 3, 2), strict=True)
    )
    assert set(got["label"].to_pylist()) == set(names)


def test_a_folder_names_the_task_if_there_are_several(tmp_path: Path) -> None:
    got = read(folders(tmp_path, "birds/barn owl", "sizes/big", "sizes/small"), BIRDS, SIZES)
    assert list(zip(got["task"].to_pylist(), got["label"].to_pylist(), strict=True)) == [
        ("birds", "barn owl"),
        ("sizes", "big"),
        ("sizes", "small"),
    ]


def test_images_without_class_folders_are_refused_with_what_to_do(tmp_path: Path) -> None:
    for number, data in enumerate(IMAGES):
        (tmp_path / f"{number}.png").write_bytes(data)
    with pytest.raises(ConfigError, match=r"put the images of each class into a folder of its name, or write a csv"):
        check_set("test", str(tmp_path), [BIRDS])
    assert ReadRowGroups(row_groups(str(tmp_path)))(0)["image"].to_pylist() == IMAGES


@pytest.mark.parametrize("name", ["set.csv", "set.tsv", "set.jsonl"])
@pytest.mark.parametrize("values", [WANTED, ["Grey-Heron", "red_fox", "BARN OWL", "ardea cinerea"], POSITIONS])
def test_a_table_of_paths_and_labels_is_a_set(tmp_path: Path, name: str, values: list[str] | list[int]) -> None:
    rows = [{"path": f"images/{number}.png", "class": value} for number, value in enumerate(values)]
    comma = "\t" if name.endswith("tsv") else ","
    lines = [f"path{comma}class", *(f"{row['path']}{comma}{row['class']}" for row in rows)]
    text = "\n".join(map(json.dumps, rows) if name.endswith("jsonl") else lines)
    source = table(tmp_path, name, text)
    assert is_whole(read(source, BIRDS))
    assert is_whole(read(str(tmp_path), BIRDS))  # its folder
    assert ReadRowGroups(row_groups(source))(0)["image"].to_pylist() == IMAGES


def test_a_table_of_paths_may_be_parquet_and_a_missing_file_is_an_image_that_cannot_be_decoded(tmp_path: Path) -> None:
    source = table(tmp_path, "unused.md", "")
    paths = [f"images/{number}.png" for number in range(3)] + ["images/none.png"]
    pq.write_table(pa.table({"file_name": paths, "label": POSITIONS}), tmp_path / "set.parquet")
    got = read(str(tmp_path / "set.parquet"), BIRDS)
    assert got["image"].to_pylist() == [*IMAGES[:3], None] and got["label"].to_pylist() == WANTED
    with pytest.raises(ConfigError, match=r"^evaluate.datasets.test: "):
        check_set("test", source, [BIRDS])


@pytest.mark.parametrize(
    "members",
    [
        {"cls": WANTED},
        {"cls": [str(number) for number in POSITIONS], "txt": ["a text"] * 4},
        {"txt": WANTED},
        {"json": [json.dumps({"label": name, "caption": "a text"}) for name in WANTED]},
        {"json": [json.dumps({"label": number}) for number in POSITIONS]},
    ],
    ids=["cls", "positions", "txt", "json", "json positions"],
)
def test_tars_are_a_set(tmp_path: Path, members: dict[str, list[str]]) -> None:
    (tmp_path / "test").mkdir()
    assert is_whole(read(tar(tmp_path / "test" / "0.tar", **members), BIRDS))
    assert is_whole(read(str(tmp_path / "test"), BIRDS))


def num_bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def test_to_know_the_labels_of_a_local_tar_no_image_is_read(tmp_path: Path) -> None:
    open_files(tar(tmp_path / "small.tar", cls=WANTED), "a set").labels(0, 4)  # what is imported is read here
    large = tmp_path / "large.tar"
    with tarfile.open(large, "w") as file:
        for number, label in enumerate(WANTED):
            for suffix, content in (("png", bytes(4 << 20)), ("cls", label.encode())):
                info = tarfile.TarInfo(f"s{number}.{suffix}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    before = num_bytes_read()
    files = open_files(str(large), "a set")
    assert files.labels(0, 4)["label"].to_pylist() == WANTED and files.labels(1, 2)["label"].to_pylist() == WANTED[1:3]
    assert num_bytes_read() - before < 1 << 20
    assert [len(cell.data or b"") for cell in files.images(2, 2)] == [4 << 20] * 2


def test_integers_of_tars_mean_the_lines_of_a_file_of_names(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "classnames.txt").write_text("Barn owl\nRed fox\nArdea cinerea\n")
    assert is_whole(read(tar(tmp_path / "test" / "0.tar", cls=["2", "1", "0", "2"]), BIRDS))


def test_several_files_and_arrow_are_a_set(tmp_path: Path) -> None:
    names = {"label": {"names": ["red fox", "Barn_owl", "grey heron"], "_type": "ClassLabel"}}
    told = {"huggingface": json.dumps({"info": {"features": names}})}
    whole = pa.table({"image": IMAGES, "label": [2, 0, 1, 2]}).replace_schema_metadata(told)
    (tmp_path / "arrow").mkdir()
    path = str(tmp_path / "arrow" / "data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, whole.schema) as writer:
        writer.write_table(whole)
    (tmp_path / "arrow" / "state.json").write_text("{}")
    assert is_whole(read(str(tmp_path / "arrow"), BIRDS))
    for number in range(2):
        pq.write_table(whole.slice(2 * number, 2), tmp_path / f"test-{number}.parquet")
    assert is_whole(read(f"{tmp_path}/test-*.parquet", BIRDS))
    pq.write_table(whole.select(["image"]), tmp_path / "test-9.parquet")
    with pytest.raises(ConfigError, match=r"test-9.parquet lacks the column 'label' of "):
        check_set("test", f"{tmp_path}/test-*.parquet", [BIRDS])


def test_what_is_no_set_is_refused_with_the_forms_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluate.datasets.test: cannot read .*no such file.*; a set is Parquet"):
        check_set("test", str(tmp_path / "none.csv"), [BIRDS])
