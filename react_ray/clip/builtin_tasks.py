"""Tasks that are built in: class names, prompt templates, and the metric that counts.

ImageNet comes from open_clip; elevater_tasks.json has the 20 tasks of ELEVATER (Li et al. 2022), and
imagenet_tasks.json the classes of the sets that vary ImageNet; V2 and Sketch have all of them. Each file says where its
lists are from.
"""

from __future__ import annotations

import difflib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from react_ray.errors import ConfigError
from react_ray.metadata import parse_json, shaped

TEMPLATES = {"imagenet-7": "SIMPLE_IMAGENET_TEMPLATES"}  # of open_clip; other tasks of ImageNet have all 80
IMAGENET = ("imagenet", "imagenet-7", "imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r", "objectnet")


class Builtin(NamedTuple):
    class_names: list[str]
    templates: list[str]  # with {}
    metric: str = "top1"  # one of prompts.METRICS
    # What folders and labels of the published set call each class, such as n01440764; () = as the class is named.
    identifiers: tuple[str, ...] = ()
    squash: bool = False  # as of prompts.TargetTask


def builtin_names() -> list[str]:
    return [*IMAGENET, *_file("elevater_tasks.json")["tasks"]]


def builtin_task(name: str) -> Builtin:
    """Raises ConfigError for a task that is not built in."""
    if name in IMAGENET:
        return _imagenet(name)
    known = builtin_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}"
        raise ConfigError(f"tasks.builtin: no task {name!r} is built in; {hint}")
    task = _file("elevater_tasks.json")["tasks"][name]
    return Builtin(task["classes"], task["templates"], task["metric"], squash=task.get("squash", False))


def _imagenet(name: str) -> Builtin:
    """Runs open_clip's metadata file by itself, since its templates are functions."""
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None and spec.submodule_search_locations is not None, "open_clip is a dependency"
    path = Path(next(iter(spec.submodule_search_locations))) / "zero_shot_metadata.py"
    spec = importlib.util.spec_from_file_location("_imagenet_metadata", path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    templates = [template("{}") for template in getattr(module, TEMPLATES.get(name, "OPENAI_IMAGENET_TEMPLATES"))]
    found = _file("imagenet_tasks.json")
    if name == "objectnet":
        return Builtin([*found[name].values()], templates, identifiers=tuple(found[name]))
    name_of = dict(zip(found["imagenet"], module.IMAGENET_CLASSNAMES, strict=True))
    identifiers = tuple(found.get(name, found["imagenet"]))
    return Builtin([name_of[one] for one in identifiers], templates, identifiers=identifiers)


@cache
def _file(name: str) -> dict[str, Any]:
    path = Path(__file__).with_name(name)
    remedy = "install react_ray again"
    return shaped(parse_json(path.read_bytes(), name, remedy), dict[str, Any], name, remedy)
