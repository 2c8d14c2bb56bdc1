"""Hostile values for fields of YAML and JSON: other types, extreme numbers, endless text, deep nesting."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

LONG_INTEGER = "9" * 5000  # more digits than Python converts
DEEP = 5000


def value(rng: random.Random) -> Any:
    """Returns a value that JSON and YAML can both write."""
    return rng.choice(
        [
            None,
            True,
            False,
            0,
            -1,
            1,
            2**31,
            2**63,
            -(2**70),
            1e300,
            -0.0,
            float("nan"),
            float("inf"),
            "",
            " ",
            "no",
            "0x10",
            "1e3",
            "2024-01-01",
            "~",
            "a" * 3000,
            "line\nbreak",
            "nul\0nul",
            "\u202e\ufeff\ud83e\udd86 \u00e9",
            "../../etc/passwd",
            "s3://",
            "sample://x",
            "file:///dev/zero",
            [],
            [[]],
            [None],
            ["a", 1, {}],
            list(range(300)),
            {},
            {"": ""},
            {"a": {"b": {"c": []}}},
            {"__class__": "x", "digest": None},
        ]
    )


def text(rng: random.Random) -> str:
    """Returns a piece of YAML or JSON that is hard to parse."""
    return rng.choice(
        [
            LONG_INTEGER,
            f"-{LONG_INTEGER}",
            f"0x{LONG_INTEGER}",
            f"1e{LONG_INTEGER[:400]}",
            "[" * DEEP,
            "[" * DEEP + "]" * DEEP,
            '{"a":' * DEEP + "1" + "}" * DEEP,
            "NaN",
            "-Infinity",
            ".inf",
            "2024-13-45",
            "2024-02-30 25:61:61",
            "!!timestamp 2024-99-99",
            "!!int x",
            "!!float 1.2.3",
            "!!binary '@@@'",
            "!!python/object/apply:os.system ['true']",
            "!unknown {a: 1}",
            "!!set {a, b}",
            "!!omap [a: 1]",
            "&a [*a]",
            "*nowhere",
            "<<: 1",
            "? [a, b]",
            "'unclosed",
            '"\\q"',
            '"\\ud800"',
            "\t- tab",
            "{a: b, a: c}",
            "@at",
            "`tick",
            "%percent",
            "|\n  block\n text",
            "1_000",
            "012",
            "190:20:30",
            "=",
            "on",
            "null",
            "\x00",
            "\x07",
            "\u2028",
        ]
    )


def bomb() -> str:
    """Returns YAML of 300 bytes whose aliases stand for 10**9 texts."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    names = "abcdefghi"
    lines += [f"{name}: &{name} [{', '.join(['*' + before] * 10)}]" for before, name in pairwise(names)]
    return "\n".join(lines)


def paths(values: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the place of every value within mappings and lists."""
    found = [above] if above else []
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, inner in items:
        found += paths(inner, (*above, key))
    return found


def changed(values: Any, rng: random.Random) -> tuple[Any, str]:
    """Returns a copy with one field replaced, removed, renamed, added or emptied, and what was done."""
    copy = json.loads(json.dumps(values))
    places = paths(copy)
    if not places:
        return value(rng), "another document"
    path = rng.choice(places)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    key, named = path[-1], ".".join(map(str, path))
    what = rng.choice(("replace", "replace", "replace", "remove", "rename", "add", "nest"))
    if what == "remove":
        del inner[key]
    elif what == "rename" and isinstance(inner, dict):
        inner[rng.choice((f"{key}s", str(key)[:-1], "", "\u00e9", str(key).upper()))] = inner.pop(key)
    elif what == "add" and isinstance(inner, dict):
        inner[rng.choice(("new_field", "schema", "", "a" * 300, str(key) + "_"))] = value(rng)
    elif what == "nest":
        inner[key] = {"value": inner[key]} if rng.random() < 0.5 else [inner[key]]
    else:
        what = "replace"
        inner[key] = value(rng)
    return copy, f"{what} {named}"
