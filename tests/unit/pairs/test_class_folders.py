"""Retrieved pairs become folders of classes, whatever the classes are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from react_ray.cli import main
from react_ray.errors import ArtifactMissing, ConfigError
from react_ray.pairs.export.class_folders import MOST_BYTES, folder_names
from react_ray.pairs.export.images import export
from react_ray.pairs.retrieval import RetrievedClass
from react_ray.pairs.source import IngestConfig, open_source
from react_ray.storage import Storage, join
from tests.support.retrieved import photo, write_queries, write_retrieved, write_run


def classes(*names: str, task: str = "t") -> list[RetrievedClass]:
    return [RetrievedClass(i, task, name, [], 1, None, None, None, None) for i, name in enumerate(names)]


def test_each_class_has_a_folder_with_its_images_and_captions(place: Storage, tmp_path: Path) -> None:
    write_run(place)
    said = export("files", join(place.uri, "retrieved"), str(tmp_path / "out"))
    assert said.endswith(
        ": 10 images in 4 folders of classes; 2 pairs have no image (http_404 2); 1 of 5 classes have no image"
    )
    out = tmp_path / "out"
    evil = "script_alert('x')__script_ _quoted_ & heron"
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["classes.json", "crane (birds)", "crane (machines)", "heron", evil]
    )
    assert (out / "heron/0.jpg").read_bytes() == photo(0)
    assert (out / "heron/4.txt").read_text() == "a heron 4 "
    assert sorted(path.name for path in (out / evil).iterdir()) == ["1048579.jpg", "1048579.txt", "5.jpg", "5.txt"]
    listed = json.loads((out / "classes.json").read_text())
    assert [(row["folder"], row["pairs"], row["images"]) for row in listed] == [
        ("heron", 3, 3),
        (evil, 3, 2),
        ("crane (birds)", 3, 3),
        ("crane (machines)", 3, 2),
        (None, 0, 0),
    ]


def test_the_folders_can_be_ingested_again(disk_place: Storage, tmp_path: Path) -> None:
    write_run(disk_place)
    export("files", join(disk_place.uri, "retrieved"), str(tmp_path / "out"))
    source = open_source(IngestConfig(source=str(tmp_path / "out"), rows_per_part=100, max_unusable=1))
    captions = [caption.strip() for caption in source.read(0)["caption"].to_pylist()]
    assert "a heron 4" in captions and all(caption.startswith("a heron ") for caption in captions)
    assert len(captions) == 8  # two more are no images


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("../../etc", "etc"),
        ("/", "class"),
        ("a/b\\c", "a_b_c"),
        ("nul\0l", "nul_l"),
        ("NUL", "class NUL"),
        ("com1.txt", "class com1.txt"),
        (".hidden.", "hidden"),
        ("..", "class"),
        ("  ", "class"),
        ("a\nb\x1b[31m\u202ec", "a_b_[31m_c"),
        ("e\u0301t\u00e9", "\u00e9t\u00e9"),
        ("日本語", "日本語"),
        ("a\ud800b", "a_b"),
    ],
)
def test_a_hostile_class_name_becomes_a_name_of_one_folder(name: str, folder: str) -> None:
    [found] = folder_names(classes(name)).values()
    assert found == folder


def test_names_that_are_equal_after_cleaning_are_told_apart() -> None:
    names = folder_names(classes("a/b", "a:b", "A_B", "a_b 2", "classes.json", "Crane", "crane"))
    assert list(names.values()) == ["a_b", "a_b 2", "A_B 3", "a_b 2 2", "classes.json 2", "Crane", "crane 2"]
    assert len({name.casefold() for name in names.values()}) == len(names)


def test_very_long_names_fit_a_file_system(tmp_path: Path) -> None:
    names = list(folder_names(classes("é" * 300, "é" * 301, "x" * 5000)).values())
    assert len(set(names)) == 3 and all(len(name.encode()) <= MOST_BYTES + 4 for name in names)
    for name in names:
        (tmp_path / name).mkdir()


def test_images_that_are_not_there_are_asked_for_before_anything_is_written(
    disk_place: Storage, tmp_path: Path
) -> None:
    write_queries(disk_place.uri)
    write_retrieved(disk_place.uri)
    uri = join(disk_place.uri, "retrieved")
    with pytest.raises(ArtifactMissing, match="the images of the retrieved pairs are not there yet; run"):
        export("files", uri, str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="exported as files; name the images beside it for webdataset"):
        export("webdataset", uri, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_has_files_is_refused(
    disk_place: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(disk_place)
    main(["export", "files", join(disk_place.uri, "retrieved"), str(tmp_path / "out")])
    assert "10 images in 4 folders" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["export", "files", join(disk_place.uri, "retrieved"), str(tmp_path / "out")])
    assert stop.value.code == 2 and "is not empty" in capsys.readouterr().err
