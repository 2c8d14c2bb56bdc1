"""Reads JSON: the metadata that this package writes, and files that users name. Bytes in, a checked shape out.

Whatever is wrong with a file, the reader gets one error in one line: ArtifactCorrupt for metadata of ours, ConfigError
for files of users. `stamped` writes metadata with a checksum of itself, so that an edited file is told from a written
one; files without it, of earlier versions, are read all the same.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from react_ray.errors import ArtifactCorrupt, ReactRayError
from react_ray.section import digest
from react_ray.storage import Storage

T = TypeVar("T")
CHECKSUM = "checksum"
MAX_DIGITS = 400  # of one number; a float has at most 309 before its point, and Python refuses to read 4,301
LONG_NUMBER = re.compile(rf"\d{{{MAX_DIGITS + 1},}}")


def read_json(storage: Storage, path: str, shape: type[T], remedy: str) -> T:
    """Metadata of ours that lies at `path`. Raises ArtifactCorrupt, which ends with `remedy`."""
    where = f"{storage.uri}/{path}"
    return shaped(parse_json(storage.read(path), where, remedy), shape, where, remedy)


def read_json_lines(storage: Storage, path: str, shape: type[T], remedy: str) -> list[T]:
    """As `read_json`, of a file that has one value a line."""
    where = f"{storage.uri}/{path}"
    lines = enumerate(storage.read(path).split(b"\n"), 1)
    named = [(line, f"{where}, line {number},") for number, line in lines if line.strip()]
    return [shaped(parse_json(line, place, remedy), shape, place, remedy) for line, place in named]


def parse_json(data: bytes, where: str, remedy: str, error: type[ReactRayError] = ArtifactCorrupt) -> Any:
    """The value of a JSON file. where: its URI. Raises `error` with line and column, which ends with `remedy`."""
    try:
        text = data.decode("utf-8-sig")
        if not text.strip():
            raise error(f"{where} is empty; {remedy}")
        if long := LONG_NUMBER.search(text):
            raise error(f"{where} has a number of {len(long[0]):,} digits at {_at(text, long.start())}; {remedy}")
        return json.loads(text, object_pairs_hook=_mapping)
    except UnicodeDecodeError as problem:
        before = data[: problem.start].decode()
        raise error(f"{where} is not UTF-8 text at {_at(before, len(before))}; {remedy}") from problem
    except json.JSONDecodeError as problem:
        at = f"line {problem.lineno}, column {problem.colno}"
        raise error(f"{where} is not JSON ({problem.msg.lower().removesuffix(' at')} at {at}); {remedy}") from problem
    except RecursionError as problem:
        raise error(f"{where} is nested too deeply; {remedy}") from problem
    except ValueError as problem:
        raise error(f"{where}: {problem}; {remedy}") from problem


def shaped(value: Any, shape: type[T], where: str, remedy: str, error: type[ReactRayError] = ArtifactCorrupt) -> T:
    """The value as `shape`, a dataclass or a type such as dict[str, int]; fields that `shape` does not have are left
    out. Raises `error` if a field is missing or of another type, or if the value is not the one that was `stamped`."""
    if isinstance(value, dict) and CHECKSUM in value:
        value = dict(value)
        if value.pop(CHECKSUM) != digest(value):
            raise error(f"{where} was changed after it was written; {remedy}")
    try:
        return cast(T, _adapter(cast(Any, shape)).validate_python(value))
    except ValidationError as problem:
        raise error(f"{where}: {explained(problem)}; {remedy}") from problem


def stamped(value: dict[str, Any]) -> bytes:
    """The value as a JSON file, with a checksum of all its other fields."""
    plain = json.loads(json.dumps(value))  # as it will be read: a key that is a number becomes text
    return (json.dumps(plain | {CHECKSUM: digest(plain)}, indent=1, sort_keys=True) + "\n").encode()


def explained(problem: ValidationError) -> str:
    """What is wrong with the first field that is wrong."""
    first = problem.errors()[0]
    path = shortened(".".join(map(str, first["loc"])))
    if first["type"] == "missing":
        return f"{path} is missing"
    return f"{path or 'it'} {first['msg'].removeprefix('Input ')}, not {shown(first['input'])}"


def shown(value: Any, most: int = 80) -> str:
    """The value as Python writes it, shortened for a message."""
    return shortened(repr(value), most)


def printable(text: str) -> str:
    """The text with a blank for each line break, control character and mark of direction, which a terminal obeys."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def shortened(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} is there twice")
    return found


def _at(text: str, position: int) -> str:
    before = text[:position]
    return f"line {before.count(chr(10)) + 1}, column {position - before.rfind(chr(10))}"


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
