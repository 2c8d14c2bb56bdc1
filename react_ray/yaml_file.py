"""Reads the YAML of users: recipes, and the values of overrides. A word stays the word that was written.

YAML takes `no`, `1984`, `2024-01-01` or `~` for a truth value, a number, a date or nothing. Whether a class is called
so is known only by the type of its field, so such a scalar keeps its text until `typed` meets the type.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeGuard, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from yaml.constructor import SafeConstructor

from react_ray.errors import ConfigError
from react_ray.metadata import shown

MAX_MB, MAX_VALUES, MAX_DEPTH = 4, 300_000, 50
TAG = "tag:yaml.org,2002:"
VALUES: dict[str, Any] = {
    f"{TAG}{name}": getattr(SafeConstructor, f"construct_yaml_{name}")
    for name in ("bool", "int", "float", "null", "timestamp")
}
TEXTS = {f"{TAG}{name}" for name in ("str", "value", "merge")}  # `=` and `<<` are words but for a key `<<`


@dataclass(frozen=True)
class Scalar:
    """A scalar that YAML takes for a value. problem: why it cannot be that value, such as month 13 of a date."""

    text: str
    value: Any
    where: str
    problem: str = ""

    def __repr__(self) -> str:
        return shown(self.text if self.problem else self.value)

    def meant(self) -> Any:
        """The value. Raises ConfigError if there is none, or if it is an integer beyond 64 bits."""
        problem = self.problem
        if isinstance(self.value, int) and not -(2**63) <= self.value < 2**63:
            problem = "an integer has at most 64 bits"
        if problem:
            raise ConfigError(f"{self.where}: {shown(self.text, 40)} is no value ({problem}); correct it, or quote it")
        return self.value


def parse_yaml(data: bytes | str, where: str, remedy: str = "correct that line") -> Any:
    """The content of a YAML document, with a Scalar for each scalar that YAML takes for no text.

    where: how errors name the document. Raises ConfigError with line and column for anything that is not plain YAML of
    lists, mappings and scalars, for a key that is there twice, and for aliases that unfold to more than MAX_VALUES.
    """
    if len(data) > MAX_MB << 20:
        raise ConfigError(f"{where} has {len(data) >> 20} MB, a recipe has at most {MAX_MB}; name another file")
    return _Document(where, remedy).value(_text(data, where, remedy))


def typed(value: Any, kind: Any, in_list: bool = False) -> Any:
    """The value with every Scalar settled by `kind`, the annotation of its field: the text if that is text, else the
    value. Null is a word only in a list, where a missing value has no meaning."""
    if isinstance(value, Scalar):
        return value.text if _is_word(value, kind, in_list) else value.meant()
    if isinstance(value, dict):
        if is_section(kind):
            return {key: typed(inner, _field(kind, key)) for key, inner in value.items()}
        inner_kind = next((get_args(one)[1] for one in _options(kind) if get_origin(one) is dict), Any)
        return {key: typed(inner, inner_kind) for key, inner in value.items()}
    if isinstance(value, list):
        inner_kinds = [get_args(one)[0] for one in _options(kind) if get_origin(one) in (list, tuple)]
        return [typed(inner, inner_kinds[0] if inner_kinds else Any, in_list=True) for inner in value]
    return value


def annotation(path: str, kind: Any) -> Any:
    """The type of the field at a dotted path below a section; Any if there is no such field."""
    for key in path.strip().split("."):
        if get_origin(kind) is dict:  # whose keys may have dots
            return get_args(kind)[1]
        kind = _field(kind, key) if is_section(kind) else Any
    return kind


def is_section(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _field(section: type[BaseModel], key: str) -> Any:
    return section.model_fields[key].annotation if key in section.model_fields else Any


def _is_word(scalar: Scalar, kind: Any, in_list: bool) -> bool:
    if scalar.value is None and not scalar.problem and not in_list:
        return False
    options = _options(kind)
    literals = [value for one in options if get_origin(one) is Literal for value in get_args(one)]
    others = (*options, *(type(value) for value in literals if not isinstance(value, str)))
    if type(scalar.value) in others and not scalar.problem:
        return False
    return str in options or any(isinstance(value, str) for value in literals)


def _options(kind: Any) -> list[Any]:
    if get_origin(kind) in (Union, types.UnionType):
        return [option for one in get_args(kind) for option in _options(one)]
    return _options(get_args(kind)[0]) if get_origin(kind) is Annotated else [kind]


def _text(data: bytes | str, where: str, remedy: str) -> str:
    if isinstance(data, str):
        return data
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line, column = data[: error.start].count(b"\n") + 1, error.start - data.rfind(b"\n", 0, error.start)
        raise ConfigError(
            f"{where} is not YAML (not {encoding.removesuffix('-sig').upper()} text at line {line}, column {column}); "
            "save it as UTF-8"
        ) from error


class _Document:
    """One walk over the nodes of a document, which counts them: an alias counts as often as it is used."""

    def __init__(self, where: str, remedy: str) -> None:
        self.where, self.remedy, self.num_values = where, remedy, 0

    def value(self, text: str) -> Any:
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            self._fail(error.problem or error.context or "a mistake", error.problem_mark or error.context_mark)
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            self._fail(
                f"the character {chr(error.character)!r} is not allowed",
                yaml.Mark("", 0, before.count("\n"), error.position - before.rfind("\n") - 1, "", 0),
            )
        except RecursionError:
            self._fail("it is nested too deeply", None)
        return None if node is None else self._of(node, 0)

    def _of(self, node: yaml.Node, depth: int) -> Any:
        self.num_values += 1
        if depth > MAX_DEPTH:
            self._fail("it is nested too deeply", node.start_mark)
        if self.num_values > MAX_VALUES:
            self._fail(f"aliases make more than {MAX_VALUES:,} values of it", node.start_mark)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG}map":
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
            return [self._of(inner, depth + 1) for inner in node.value]
        if node.tag in TEXTS:
            return node.value
        if node.tag not in VALUES:
            self._fail(f"the tag {node.tag.removeprefix(TAG)} is not allowed", node.start_mark)
        where = f"{self.where}, line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"
        try:
            return Scalar(node.value, VALUES[node.tag](SafeConstructor(), node), where)
        except (ValueError, OverflowError, KeyError, IndexError, AttributeError) as error:
            return Scalar(node.value, None, where, str(error).partition(";")[0] or type(error).__name__)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, inner in node.value:
            if key_node.tag == f"{TAG}merge":
                sources = inner.value if isinstance(inner, yaml.SequenceNode) else [inner]
                for source in sources:
                    if not isinstance(source, yaml.MappingNode):
                        self._fail("<< takes a mapping, or a list of mappings", source.start_mark)
                    merged = self._of(source, depth + 1) | merged
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._fail("a key is a word, not a list or a mapping", key_node.start_mark)
            key = key_node.value
            if key in found:
                self._fail(f"the key {shown(key, 40)} is there twice", key_node.start_mark)
            found[key] = self._of(inner, depth + 1)
        return merged | found

    def _fail(self, problem: str, mark: Any) -> NoReturn:
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{self.where} is not YAML ({problem}{at}); {self.remedy}")
