"""Built-in tasks: ImageNet's from open_clip, others from files in the layout of the optional libraries."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from react_ray.clip.builtin_tasks import ORIGINS, builtin_task
from react_ray.clip.prompts import TasksConfig, load_tasks, prompts
from react_ray.errors import ConfigError


def test_imagenet_has_its_names_and_templates_and_shares_what_is_named_twice() -> None:
    (task,) = load_tasks(TasksConfig(builtin=["imagenet"]))
    assert (len(task.class_names), len(task.templates), len(prompts(task))) == (1000, 80, 80_000)
    assert task.class_names[0] == "tench" and prompts(task)[0].prompt == "a bad photo of a tench."
    twice = [i for i, name in enumerate(task.class_names) if task.class_names.count(name) > 1]
    assert twice == [657, 744, 836, 837]
    assert len(builtin_task("imagenet-7")[1]) == 7


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes the data files of the two optional libraries in their own layout."""
    data = tmp_path / "clip_benchmark" / "datasets"
    data.mkdir(parents=True)
    (tmp_path / "clip_benchmark" / "__init__.py").write_text("raise ImportError('the library itself is not needed')")
    (data / "en_classnames.json").write_text(json.dumps({"eurosat": ["forest", "river"]}))
    (data / "en_zeroshot_classification_templates.json").write_text(
        json.dumps(
            {
                "eurosat": ["a centered satellite photo of {c}."],
                "food101": ["a photo of {c}, a type of food."],
                "cifar10": ["{c}"],
            }
        )
    )
    (tmp_path / "mmpretrain" / "datasets").mkdir(parents=True)
    (tmp_path / "mmpretrain" / "__init__.py").write_text("raise ImportError('the library itself is not needed')")
    (tmp_path / "mmpretrain" / "datasets" / "categories.py").write_text(
        "FOOD101_CATEGORIES = ('apple_pie', 'baklava')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("clip_benchmark", "mmpretrain"):  # another test may have imported the real one
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_tasks_of_other_libraries_are_read_without_importing_them(libraries: None) -> None:
    assert builtin_task("eurosat") == (["forest", "river"], ["a centered satellite photo of {}."], "top1")
    assert builtin_task("food-101") == (["apple pie", "baklava"], ["a photo of {}, a type of food."], "top1")
    tasks = load_tasks(TasksConfig(builtin=["food-101", "eurosat"], class_names=["owl"]))
    assert [task.name for task in tasks] == ["food-101", "eurosat", "task"]
    with pytest.raises(ConfigError, match="has no CIFAR10_CATEGORIES"):
        builtin_task("cifar-10")


def test_a_task_that_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match="did you mean 'food-101'"):
        builtin_task("food101")
    with pytest.raises(ConfigError, match="use one of imagenet"):
        builtin_task("zzzz")
    with pytest.raises(ConfigError, match="listed twice"):
        load_tasks(TasksConfig(builtin=["imagenet", "imagenet"]))
    assert len(ORIGINS) == 17
