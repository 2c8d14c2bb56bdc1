"""Lists the fields of a recipe: for --help of a verb, and for `react-ray help SECTION` or `help FIELD`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from react_ray.errors import ConfigError

TOP = ""  # stands for the fields of the recipe that are in no section
ALL = "all"  # stands for every section


def fields_help(sections: list[str]) -> str:
    """Lists the fields of these sections with defaults and meanings, each group under its heading.

    sections: names, of which TOP stands for the fields outside of all sections, and ALL for whatever was not named.
    """
    names = list(dict.fromkeys(name for section in sections for name in (_sections() if section == ALL else [section])))
    return "\n\n".join("\n".join([_heading(name), *_entries(name)]) for name in names)


def help_of(word: str) -> str:
    """Explains a section, or a field by its dotted name or by the end of it. ConfigError if there is none of it."""
    if word in _sections() and word != TOP:
        return fields_help([word])
    fields = dict(all_fields())
    found = [path for path in fields if path == word or path.endswith(f".{word}")]
    if word in fields:
        found = [word]
    if not found:
        ends = {path.rpartition(".")[2] for path in fields}
        near = difflib.get_close_matches(word, [*fields, *ends, *_sections()], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"the sections are {', '.join(filter(None, _sections()))}"
        raise ConfigError(f"help: no section and no field is named {word}; {hint}")
    return "\n\n".join(_explained(path, fields[path]) for path in found)


def overview() -> str:
    """Lists the sections, and how to read more."""
    from react_ray.recipe import Recipe

    lines = ["A recipe has fields and sections of fields:"]
    for name, info in Recipe.model_fields.items():
        lines.append(f"  {name:<10} {info.description}")
    lines += [
        "",
        "react-ray help SECTION     lists the fields of a section, such as customize",
        "react-ray help FIELD       explains a field, such as customize.lr or lr",
        "react-ray run --help       lists all fields",
        "react-ray VERB --help      lists the fields that a verb reads, and its options",
    ]
    return "\n".join(lines)


def all_fields() -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, pydantic's FieldInfo) of every field; a section is no field, its fields are."""
    from react_ray.recipe import Recipe

    yield from _fields("", Recipe)


def _sections() -> list[str]:
    """The names of all sections, the most used first; TOP comes first, the width of a run last."""
    from react_ray.recipe import Recipe
    from react_ray.yaml_file import is_section

    return [TOP, *(name for name, info in Recipe.model_fields.items() if is_section(info.annotation))]


def _fields(above: str, model: Any) -> Iterator[tuple[str, Any]]:
    from react_ray.yaml_file import is_section

    for name, info in model.model_fields.items():
        if is_section(info.annotation):
            yield from _fields(f"{above}{name}.", info.annotation)
        else:
            yield f"{above}{name}", info


def _heading(section: str) -> str:
    from react_ray.recipe import Recipe

    return "The run:" if section == TOP else f"{section}: {Recipe.model_fields[section].description}"


def _entries(section: str) -> list[str]:
    """Two lines a field."""
    within = (lambda path: "." not in path) if section == TOP else (lambda path: path.startswith(f"{section}."))
    return [f"  {path} = {_default(info)}\n      {info.description}" for path, info in all_fields() if within(path)]


def _explained(path: str, info: Any) -> str:
    from react_ray.section import NOT_DIGESTED

    speed = info.json_schema_extra == NOT_DIGESTED
    lines = [path, f"  {info.description}", f"  default: {_default(info)}", f"  type: {_type(info.annotation)}"]
    lines.append(f"  changing it {'changes no result, and a run may go on with it' if speed else 'changes results'}")
    keys = path.split(".")
    lines += ["  in a recipe:", *(f"    {'  ' * depth}{key}:" for depth, key in enumerate(keys))]
    lines[-1] += " ..."
    lines.append(f"  on the command line: react-ray run RECIPE {path}=...")
    if len(keys) > 1:
        lines.append(f"  cases: docs/options/{keys[0]}.md")
    return "\n".join(lines)


def _default(info: Any) -> str:
    from pydantic_core import PydanticUndefined

    return "required" if info.default is PydanticUndefined else repr(info.default)


def _type(annotation: Any) -> str:
    """As a user writes it: the values to choose from, or the name of the type."""
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is Annotated:  # a type with bounds
        return _type(get_args(annotation)[0])
    inner = [_type(one) for one in get_args(annotation)]
    if get_origin(annotation) is list:
        return f"list of {inner[0]}"
    if get_origin(annotation) is dict:
        return f"mapping of {inner[0]} to {inner[1]}"
    return " or ".join(inner) or {"str": "text", "bool": "true or false"}.get(annotation.__name__, annotation.__name__)
