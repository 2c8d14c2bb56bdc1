"""Reads the YAML of users: recipes, and the values of overrides. A word stays the word that was written.

YAML takes `no`, `1984`, `2024-01-01` or `~` for a truth value, a number, a date or nothing. Whether a class is called
so is known only by the type of its field, so such a scalar keeps its text until `typed` meets the type.
"""

from __future__ import annotations

import re
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeGuard, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from yaml.constructor import SafeConstructor

from react_ray.errors import ConfigError
from react_ray.metadata import MAX_DIGITS, shown

MAX_MB, MAX_VALUES, MAX_DEPTH = 4, 300_000, 50
TOO_DEEP = "it is nested too deeply"
TAG = "tag:yaml.org,2002:"
VALUES: dict[str, Any] = {
    f"{TAG}{name}": getattr(SafeConstructor, f"construct_yaml_{name}")
    for name in ("bool", "int", "float", "null", "timestamp")
}
TEXTS = {f"{TAG}{name}" for name in ("str", "value", "merge")}  # `=` and `<<` are words but for a key `<<`
YAML_OF_TEXT = re.compile(r"\s*['\"\[{]|(~|null)$", re.IGNORECASE)  # a quoted text, or what is no text
CONSTRUCTOR = SafeConstructor()
NOT_ALLOWED = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
TAG_DIRECTIVE = re.compile(r"^%TAG\b", re.MULTILINE)  # the parser compares each with all others
HASH_SIGNS = [chr(code) for code in range(0xE000, 0xF900)]  # for private use: a text does not have all of them


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
        """The value. Raises ConfigError if there is none."""
        if self.problem:
            raise ConfigError(
                f"{self.where}: {shown(self.text, 40)} is no value ({self.problem}); correct it, or quote it"
            )
        return self.value


def parse_yaml(data: bytes | str, where: str, remedy: str = "correct that line") -> Any:
    """The content of a YAML document, with a Scalar for each scalar that YAML takes for no text.

    where: how errors name the document. Raises ConfigError with line and column for anything that is not plain YAML of
    lists, mappings and scalars, for a key that is there twice, and for more than MAX_VALUES, aliases unfolded.
    """
    if len(data) > MAX_MB << 20:
        raise ConfigError(f"{where} has {-(-len(data) >> 20)} MB, a recipe has at most {MAX_MB}; name another file")
    return _Document(where, remedy).value(_text(data, where, remedy))


def parse_word(text: str, kind: Any, where: str) -> Any:
    """The value of a word of a command line, in which a `#` begins no comment.

    kind: the annotation of its field. For one that takes nothing but text, the word is that text as it stands, unless
    it is quoted once more. Raises ConfigError as `parse_yaml` does, and for blanks at the ends of a text.
    """
    hash_sign = next(sign for sign in HASH_SIGNS if sign not in text)
    document = _Document(where, "quote it", hash_sign)
    if text and (kind is not str or YAML_OF_TEXT.match(text)):
        return document.value(text.replace("#", hash_sign))
    document.check_characters(text)
    if text != text.strip():
        raise ConfigError(f"{where} has blanks at its ends; remove them, or quote the text within the word")
    return text


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


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The parser in C, twenty times as fast as that in Python, which asks this class at each level of nesting."""

    depth = num_nodes = 0

    def descend_resolver(self, parent: yaml.Node | None, index: Any) -> None:
        self.depth += 1
        self.num_nodes += 1
        if parent is not None and self.num_nodes > 2 * MAX_VALUES:  # each value may have a key
            raise yaml.MarkedYAMLError(
                problem=f"it has more than {MAX_VALUES:,} values", problem_mark=parent.start_mark
            )
        if parent is not None and self.depth > MAX_DEPTH + 1:
            raise yaml.MarkedYAMLError(problem=TOO_DEEP, problem_mark=parent.start_mark)

    def ascend_resolver(self) -> None:
        self.depth -= 1


class _Document:
    """One walk over the nodes of a document, which counts them: an alias counts as often as it is used."""

    def __init__(self, where: str, remedy: str, hash_sign: str = "#") -> None:
        self.where, self.remedy, self.hash_sign, self.num_values = where, remedy, hash_sign, 0

    def value(self, text: str) -> Any:
        self.check_characters(text)
        if found := TAG_DIRECTIVE.search(text):
            self._fail("%TAG is not allowed", _mark(text.count("\n", 0, found.start()), 0))
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            problem, mark = error.problem or "a mistake", error.problem_mark or error.context_mark
            if problem.startswith("but ") and error.context:
                problem = f"{error.context}, {problem}"
            lines = f"{text} ".splitlines()
            if mark and mark.line >= len(lines):  # the end of a text counts as a line
                mark = _mark(len(lines) - 1, len(lines[-1]) - 1)
            self._fail(problem, mark)
        return None if node is None else self._of(node, 0)

    def check_characters(self, text: str) -> None:
        if wrong := NOT_ALLOWED.search(text):
            before = text[: wrong.start()]
            mark = _mark(before.count("\n"), len(before) - before.rfind("\n") - 1)
            self._fail(f"the character {wrong[0]!r} is not allowed", mark)

    def _of(self, node: yaml.Node, depth: int) -> Any:
        self.num_values += 1
        if depth > MAX_DEPTH:
            self._fail(TOO_DEEP, node.start_mark)
        if self.num_values > MAX_VALUES:
            self._fail(f"it has more than {MAX_VALUES:,} values, each alias counted", node.start_mark)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG}map":
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
            return [self._of(inner, depth + 1) for inner in node.value]
        if node.tag in TEXTS:
            return self._text(node)
        if node.tag not in VALUES:
            self._fail(f"the tag {node.tag.removeprefix(TAG)} is not allowed", node.start_mark)
        where = f"{self.where}, line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"
        try:
            if len(node.value) > MAX_DIGITS:
                raise ValueError(f"a value has at most {MAX_DIGITS} characters")
            value = VALUES[node.tag](CONSTRUCTOR, node)
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError("an integer has at most 64 bits")
            return Scalar(self._text(node), value, where)
        except (ValueError, OverflowError, KeyError, IndexError, AttributeError) as error:
            return Scalar(self._text(node), None, where, str(error).partition(";")[0] or type(error).__name__)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, inner in node.value:
            if key_node.tag == f"{TAG}merge":
                sources = inner.value if isinstance(inner, yaml.SequenceNode) else [inner]
                for source in sources:
                    if not isinstance(source, yaml.MappingNode):
                        self._fail("<< takes a mapping, or a list of mappings", source.start_mark)
                    for name, value in self._of(source, depth + 1).items():
                        merged.setdefault(name, value)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._fail("a key is a word, not a list or a mapping", key_node.start_mark)
            key = self._text(key_node)
            if key in found:
                self._fail(f"the key {shown(key, 40)} is there twice", key_node.start_mark)
            found[key] = self._of(inner, depth + 1)
        return merged | found

    def _text(self, node: yaml.Node) -> str:
        text: str = node.value
        return text.replace(self.hash_sign, "#")

    def _fail(self, problem: str, mark: Any) -> NoReturn:
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = problem.replace(self.hash_sign, "#")
        raise ConfigError(f"{self.where} is not YAML ({problem}{at}); {self.remedy}")


def _mark(line: int, column: int) -> yaml.Mark:
    return yaml.Mark("", 0, line, column, "", 0)
