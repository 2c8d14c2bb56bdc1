"""Built-in tasks: ImageNet's from open_clip, ELEVATER's and the sets that vary ImageNet from lists of the package."""

from __future__ import annotations

import pytest

from react_ray.clip.builtin_tasks import IMAGENET, builtin_names, builtin_task
from react_ray.clip.prompts import MAP_11_POINT, MEAN_PER_CLASS, ROC_AUC, TOP1, TasksConfig, load_tasks, prompts
from react_ray.errors import ConfigError


def test_imagenet_has_its_names_and_templates_and_shares_what_is_named_twice() -> None:
    (task,) = load_tasks(TasksConfig(builtin=["imagenet"]))
    assert (len(task.class_names), len(task.templates), len(prompts(task))) == (1000, 80, 80_000)
    assert task.class_names[0] == "tench" and prompts(task)[0].prompt == "a bad photo of a tench."
    twice = [i for i, name in enumerate(task.class_names) if task.class_names.count(name) > 1]
    assert twice == [657, 744, 836, 837]
    assert len(builtin_task("imagenet-7").templates) == 7


def test_the_20_tasks_of_elevater_have_its_classes_templates_and_metrics() -> None:
    tasks = load_tasks(TasksConfig(builtin=builtin_names()[len(IMAGENET) :]))
    assert len(tasks) == 20
    # Of Li et al. 2022, table 6; the templates are those of CLIP.
    numbers = {task.name: (len(task.class_names), len(task.templates)) for task in tasks}
    assert numbers["caltech-101"] == (102, 34) and numbers["country211"] == (211, 5) and numbers["dtd"] == (47, 8)
    assert numbers["resisc45"] == (45, 18) and numbers["stanford-cars"] == (196, 8) and numbers["voc-2007"] == (20, 1)
    assert sum(classes for classes, _ in numbers.values()) == 1151
    others = {task.name: task.metric for task in tasks if task.metric != TOP1}
    assert others == {
        "caltech-101": MEAN_PER_CLASS,
        "fgvc-aircraft": MEAN_PER_CLASS,
        "oxford-flower-102": MEAN_PER_CLASS,
        "oxford-iiit-pets": MEAN_PER_CLASS,
        "hateful-memes": ROC_AUC,
        "voc-2007": MAP_11_POINT,
    }
    assert all(len(names) == 1 for task in tasks for names in task.synonyms)
    assert [task.name for task in tasks if task.squash] == ["kitti-distance"], "the toolkit crops all others"


def test_sets_that_vary_imagenet_have_their_classes_of_it() -> None:
    whole, artistic, hard = (builtin_task(name) for name in ("imagenet", "imagenet-r", "imagenet-a"))
    assert (len(whole.identifiers), len(artistic.class_names), len(hard.class_names)) == (1000, 200, 200)
    assert whole.identifiers[0] == "n01440764" and whole.identifiers[999] == "n15075141"
    assert hard.class_names[0] == "stingray" and hard.identifiers[0] == "n01498041"
    assert whole.class_names[whole.identifiers.index("n01498041")] == "stingray"
    objects = builtin_task("objectnet")
    assert len(objects.class_names) == len(set(objects.identifiers)) == 113
    assert (objects.identifiers[0], objects.class_names[0]) == ("alarm_clock", "alarm clock")
    assert all(len(task.templates) == 80 for task in (whole, artistic, hard, objects))


def test_a_task_that_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match="did you mean 'food-101'"):
        builtin_task("food101")
    with pytest.raises(ConfigError, match="use one of imagenet"):
        builtin_task("zzzz")
    with pytest.raises(ConfigError, match="listed twice"):
        load_tasks(TasksConfig(builtin=["imagenet", "imagenet"]))
