from __future__ import annotations

import json
from pathlib import Path

import pytest

from react_ray.clip.prompts import Prompt, TargetTask, TasksConfig, load_tasks, prompts
from react_ray.errors import ConfigError

TWO = {
    "birds": {"classes": ["heron", "great egret"], "templates": ["a {}", "{} in the reeds"]},
    "moods": {"classes": [["happy", "smiling"], "sad"], "templates": ["a {} face"]},
}


def tasks_file(folder: Path, tasks: object = TWO) -> str:
    path = folder / "tasks.json"
    path.write_text(json.dumps({"tasks": tasks}))
    return str(path)


def test_every_class_meets_every_template_in_order(tmp_path: Path) -> None:
    birds, moods = load_tasks(TasksConfig(file=tasks_file(tmp_path)))
    assert birds.class_names == ("heron", "great egret")
    assert prompts(birds) == [
        Prompt(0, "heron", "a heron"),
        Prompt(0, "heron", "heron in the reeds"),
        Prompt(1, "great egret", "a great egret"),
        Prompt(1, "great egret", "great egret in the reeds"),
    ]
    assert moods.class_names == ("happy", "sad") and moods.synonyms == (("happy", "smiling"), ("sad",))
    assert [(p.class_id, p.class_name, p.prompt) for p in prompts(moods)] == [
        (0, "happy", "a happy face"),
        (0, "happy", "a smiling face"),
        (1, "sad", "a sad face"),
    ]


def test_names_choose_and_order_tasks(tmp_path: Path) -> None:
    file = tasks_file(tmp_path)
    assert [t.name for t in load_tasks(TasksConfig(file=file))] == ["birds", "moods"]
    assert [t.name for t in load_tasks(TasksConfig(file=file, names=["moods"]))] == ["moods"]


def test_a_task_can_be_given_in_the_recipe() -> None:
    found = load_tasks(TasksConfig(name="pets", class_names=["cat", "dog"]))
    assert found == [TargetTask("pets", ("cat", "dog"), ("a photo of a {}.",), (("cat",), ("dog",)))]


def test_braces_in_a_class_name_are_just_text() -> None:
    (task,) = load_tasks(TasksConfig(class_names=["set {1, 2}", "{0}"], templates=["{} and {}"]))
    assert [p.prompt for p in prompts(task)] == ["set {1, 2} and set {1, 2}", "{0} and {0}"]


def test_the_sample_tasks_load() -> None:
    found = {task.name: len(task.class_names) for task in load_tasks(TasksConfig(file="sample://tasks.json"))}
    assert len(found) == 8 and found["flags"] == 251


def test_a_text_file_has_a_class_a_line_with_its_synonyms(tmp_path: Path) -> None:
    file = tmp_path / "birds.txt"
    file.write_text("\ufeffgrey heron | Ardea cinerea\n\nlittle egret\n", encoding="utf-8")
    (task,) = load_tasks(TasksConfig(file=str(file), name="birds", templates=["a {}"]))
    assert task == TargetTask(
        "birds", ("grey heron", "little egret"), ("a {}",), (("grey heron", "Ardea cinerea"), ("little egret",))
    )
    file.write_text("heron |\n")
    with pytest.raises(ConfigError, match="class 0 has an empty name"):
        load_tasks(TasksConfig(file=str(file)))
    file.write_bytes(b"h\xe9ron")
    with pytest.raises(ConfigError, match="save it as UTF-8"):
        load_tasks(TasksConfig(file=str(file)))
    file.write_text("")
    with pytest.raises(ConfigError, match="no class names"):
        load_tasks(TasksConfig(file=str(file)))


def test_two_classes_may_share_a_name_where_that_is_asked_for() -> None:
    (task,) = load_tasks(TasksConfig(class_names=["sunglasses", "owl", "sunglasses"], duplicates="share"))
    assert task.class_names == ("sunglasses", "owl", "sunglasses")
    assert [p.class_id for p in prompts(task)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no class names"),
        ({"class_names": ["cat", " "]}, "class 1 has an empty name"),
        ({"class_names": ["cat", []]}, "class 1 has an empty name"),
        ({"class_names": ["cat", "dog", "cat"]}, "'cat' is a name of two classes"),
        ({"class_names": ["heron", "heron "]}, "'heron' is a name of two classes"),
        ({"class_names": ["crane", ["wading bird", "crane"]]}, "'crane' is a name of two classes"),
        ({"class_names": ["cat"], "templates": ["a cat"]}, "has no {}"),
        ({"class_names": ["cat"], "templates": [""]}, "has no {}"),
        ({"class_names": ["cat"], "templates": []}, "no templates"),
    ],
)
def test_what_cannot_be_meant_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_tasks(TasksConfig.model_validate(config))


def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no task 'bird'; did you mean 'birds'"):
        load_tasks(TasksConfig(file=tasks_file(tmp_path), names=["bird"]))
    with pytest.raises(ConfigError, match="listed twice"):
        load_tasks(TasksConfig(file=tasks_file(tmp_path), names=["birds", "birds"]))
    with pytest.raises(ConfigError, match="both given"):
        load_tasks(TasksConfig(file=tasks_file(tmp_path), class_names=["cat"]))
    with pytest.raises(ConfigError, match="classes must be a list"):
        load_tasks(TasksConfig(file=tasks_file(tmp_path, {"a": {"classes": "cat", "templates": ["{}"]}})))
    for content in ("[]", "{", '{"tasks": []}', '{"tasks": {}}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ConfigError, match="for the form"):
            load_tasks(TasksConfig(file=str(tmp_path / "bad.json")))
