"""Door: recipes and their overrides, lists of classes and of pair_ids, which users write by hand.

A harmless rewriting of a shipped recipe has to give an equal recipe, and words that YAML takes for booleans or numbers
stay words where text is meant. Whatever loads has to survive being written and loaded again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

import react_ray
from react_ray.clip.prompts import TasksConfig, load_tasks, prompts
from react_ray.index.deleted import read_ids
from react_ray.recipe import Recipe, load_recipe
from tests.campaign import hostile
from tests.campaign.case import Case, check, must_work
from tests.campaign.damage import damaged

SHIPPED = Path(react_ray.__file__).parent / "recipes"
WORDS = ("no", "yes", "on", "off", "y", "1984", "1e3", "0x10", "2024-01-01", "1_000", "012", "190:20", "true")
CLASSES = {"tasks": {"birds": {"classes": ["heron", ["egret", "white heron"]], "templates": ["a photo of a {}."]}}}


def run(case: Case) -> str:
    rng = case.rng()
    return rng.choices(list(KINDS), list(KINDS.values()))[0](case, rng)


def _load(case: Case, data: bytes, overrides: list[str] | None = None) -> Recipe:
    for name, shipped in _shipped().items():  # for `base`
        (case.folder / name).write_bytes(shipped)
    path = case.folder / "tried.yaml"
    path.write_bytes(data)
    recipe = load_recipe(str(path), overrides)
    (case.folder / "again.yaml").write_text(recipe.yaml(), encoding="utf-8")
    with must_work("the recipe as it was resolved"):
        again = load_recipe(str(case.folder / "again.yaml"))
    check(_same(again, recipe), "a recipe changes when it is written and loaded again")
    for name in recipe.arm_names():
        recipe.arm(name).digested()
    return recipe


def _harmless(case: Case, rng: random.Random) -> str:
    name, data = _choice(rng)
    rewrite = rng.choice(REWRITES)
    with must_work(rewrite.__name__):
        wanted = load_recipe(str(SHIPPED / name))
        if rewrite is _words:
            return _check_words(case, data, rng)
        found = _load(case, rewrite(data, rng))
    check(_same(found, wanted), f"{name} becomes another recipe by {rewrite.__name__}")
    return f"{name} by {rewrite.__name__}"


def _damaged(case: Case, rng: random.Random) -> str:
    name, data = _choice(rng)
    made, how = damaged(data, rng, _choice(rng)[1])
    _load(case, made)
    return f"{name} with {how}"


def _changed(case: Case, rng: random.Random) -> str:
    name, data = _choice(rng)
    values, how = hostile.changed(yaml.safe_load(data), rng)
    _load(case, yaml.dump(values, sort_keys=False, allow_unicode=rng.random() < 0.5).encode("utf-8", "replace"))
    return f"{name}: {how}"


def _inserted(case: Case, rng: random.Random) -> str:
    """Puts text that is hard to parse in the place of a value, as a line of its own, or around everything."""
    name, data = _choice(rng)
    lines = data.decode().split("\n")
    odd = hostile.text(rng) if rng.random() < 0.95 else hostile.bomb()
    at = rng.randrange(len(lines))
    place = rng.choice(("value", "value", "value", "line", "all", "key", "encoding"))
    if place == "value":
        lines[at] = f"{lines[at].partition(':')[0]}: {odd}"
    elif place == "key":
        lines[at] = f"{odd}:{lines[at].partition(':')[2]}"
    elif place == "line":
        lines.insert(at, odd)
    elif place == "all":
        lines = [odd]
    made = "\n".join(lines)
    if place == "encoding":
        encoding = rng.choice(("utf-16", "utf-16-be", "utf-32", "latin-1", "cp037"))
        _load(case, ("# h\u00e9ron\n" + made.encode("ascii", "replace").decode()).encode(encoding))
    else:
        _load(case, made.encode("utf-8", "replace"))
    return f"{name} with {odd[:20]!r} as {place}"


def _overridden(case: Case, rng: random.Random) -> str:
    name, data = _choice(rng)
    overrides = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        path = rng.choice(_fields())
        if rng.random() < 0.2:
            path = rng.choice((path[:-1], path + ".x", "." + path, path.upper(), "", "arms.a." + path, "\u00e9" + path))
        odd = rng.choice((hostile.text(rng), json.dumps(hostile.value(rng)), str(rng.random()), "[a, b]", "a"))
        overrides.append(f"{path}{rng.choice(('=', '=', '=', '=', '', '=='))}{odd}")
    _load(case, data, overrides)
    return f"{name} {[one[:60] for one in overrides]}"


def _classes(case: Case, rng: random.Random) -> str:
    """The file of `tasks.file`: a JSON, or a text with one class a line."""
    as_text = rng.random() < 0.3
    data = b"heron\negret | white heron\n" if as_text else json.dumps(CLASSES).encode()
    if rng.random() < 0.5:
        made, how = damaged(data, rng)
    elif as_text:
        made, how = hostile.text(rng).encode("utf-8", "replace"), "odd text"
    elif rng.random() < 0.5:
        changed, how = hostile.changed(CLASSES, rng)
        made = json.dumps(changed).encode()
    else:
        made, how = data.replace(b'"heron"', hostile.text(rng).encode("utf-8", "replace")), "odd value"
    path = case.folder / ("classes.txt" if as_text else "tasks.json")
    path.write_bytes(made)
    for task in load_tasks(TasksConfig(file=str(path))):
        for prompt in prompts(task):
            check(bool(prompt.class_name.strip()), "a class without a name")
    return f"classes with {how}"


def _ids(case: Case, rng: random.Random) -> str:
    lines = [str(rng.randrange(2**63)) for _ in range(rng.randrange(1, 20))]
    is_valid = rng.random() < 0.3
    if not is_valid:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice((hostile.text(rng), "\u0663", "-1", "1.0", str(2**63))))
    path = case.folder / "ids.txt"
    path.write_bytes("\n".join(lines).encode("utf-8", "replace"))
    found = read_ids(str(path))
    check(not is_valid or found.tolist() == [int(line) for line in lines], "pair_ids are read as others")
    return f"{len(found)} pair_ids"


def _check_words(case: Case, data: bytes, rng: random.Random) -> str:
    """Plain words of YAML's own are names of classes, and a resize mode, as the user wrote them."""
    words = rng.sample(WORDS, rng.randrange(1, len(WORDS)))
    values = yaml.safe_load(data)
    listed = f"\ntasks:\n  name: words\n  class_names: [{', '.join(words)}]\n"
    rest = {key: value for key, value in values.items() if key not in ("tasks", "arms")}
    found = _load(case, (yaml.safe_dump(rest, sort_keys=False) + listed).encode(), ["download.resize_mode=no"])
    check(found.tasks.class_names == words, f"classes {words} are read as {found.tasks.class_names}")
    check(found.download.resize_mode == "no", "resize_mode=no is read as something else")
    return "words"


def _commented(data: bytes, rng: random.Random) -> bytes:
    return b"# a comment\n\n" + data.replace(b"\n", b"   # said\n", 1) + b"\n# the end"


def _windows(data: bytes, rng: random.Random) -> bytes:
    return data.replace(b"\n", b"\r\n")


def _byte_order_mark(data: bytes, rng: random.Random) -> bytes:
    return b"\xef\xbb\xbf" + data


def _marked(data: bytes, rng: random.Random) -> bytes:
    return b"---\n" + data + b"\n...\n"


def _flow(data: bytes, rng: random.Random) -> bytes:
    return yaml.safe_dump(yaml.safe_load(data), default_flow_style=True, sort_keys=False, width=10**6).encode()


def _as_json(data: bytes, rng: random.Random) -> bytes:
    return json.dumps(yaml.safe_load(data)).encode()


def _reordered(data: bytes, rng: random.Random) -> bytes:
    values = list(yaml.safe_load(data).items())
    rng.shuffle(values)
    return yaml.safe_dump(dict(values), sort_keys=False).encode()


def _words(data: bytes, rng: random.Random) -> bytes:
    return data


KINDS = {_harmless: 2, _damaged: 3, _changed: 4, _inserted: 3, _overridden: 3, _classes: 1, _ids: 1}  # weights
REWRITES: list[Callable[[bytes, random.Random], bytes]] = [
    _commented,
    _windows,
    _byte_order_mark,
    _marked,
    _flow,
    _as_json,
    _reordered,
    _words,
    _words,
]


def _same(found: Recipe, wanted: Recipe) -> bool:
    """Compares as text, in which NaN equals NaN."""
    return repr(found.model_dump()) == repr(wanted.model_dump())


@lru_cache(maxsize=1)
def _shipped() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(SHIPPED.glob("*.yaml"))}


def _choice(rng: random.Random) -> tuple[str, bytes]:
    return rng.choice(list(_shipped().items()))


@lru_cache(maxsize=1)
def _fields() -> list[str]:
    def below(model: Any, above: str) -> list[str]:
        found = []
        for name, info in model.model_fields.items():
            found.append(f"{above}{name}")
            if hasattr(info.annotation, "model_fields"):
                found += below(info.annotation, f"{above}{name}.")
        return found

    return below(Recipe, "")
