"""YAML of users: words stay words, values stay values, and every mistake is one line with its place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from react_ray.errors import ConfigError
from react_ray.recipe import Recipe, load_recipe
from react_ray.section import Section, field
from react_ray.yaml_file import MAX_VALUES, parse_yaml, typed

RECIPE = """
name: test
database: /tmp/database
out: /tmp/out
backbone: {name: ViT-B-32}
ingest: {source: "sample://pool.parquet"}
"""
WORDS = [
    "no", "No", "off", "yes", "on", "true", "1984", "007", "1_000", "0x10", "0b1", "1:30", "-1", "1.50", "1e3", ".5",
    "1.0e+3", "2024-01-01", "2024-13-45", "2024-01-01 10:00:00", "null", "Null", "~", ".nan", ".inf", "=", "<<", "y",
    "9" * 5000,
]  # fmt: skip


class Kinds(Section):
    word: str = field("", "text")
    words: list[str | list[str]] = field([], "texts")
    named: dict[str, list[str]] = field({}, "texts")
    mode: Literal["keep", "no"] = field("keep", "one of two words")
    whole: int = field(0, "a number")
    share: float = field(0.0, "a number")
    flag: bool = field(False, "yes or no")
    either: str | int = field("", "text or a number")


def kinds(text: str) -> Kinds:
    return Kinds.model_validate(typed(parse_yaml(text, "x.yaml"), Kinds))


def load(tmp_path: Path, more: str = "", overrides: list[str] | None = None) -> Recipe:
    (tmp_path / "recipe.yaml").write_text(RECIPE + more, encoding="utf-8")
    return load_recipe(str(tmp_path / "recipe.yaml"), overrides)


def mistake(tmp_path: Path, more: str = "", overrides: list[str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, more, overrides)
    text = str(caught.value)
    assert text.isprintable() and len(text) < 1000 and "; " in text
    return text


@pytest.mark.parametrize("word", WORDS)
def test_a_word_where_text_is_meant_is_what_was_written(word: str) -> None:
    key = "x" if word == "<<" or len(word) > 1000 else word  # << merges, and a key has at most 1,024 characters
    found = kinds(f"words: [{word}, [{word}, b]]\nnamed: {{{key}: [{word}]}}")
    assert list(found.named) == [key]
    assert found.words == [word, [word, "b"]] and next(iter(found.named.values())) == [word]
    if word.lower() not in ("null", "~"):
        assert kinds(f"word: {word}").word == word


def test_a_value_where_a_value_is_meant_is_as_before() -> None:
    assert kinds("flag: yes").flag is True and kinds("flag: off").flag is False
    for text, value in (("0x10", 16), ("1_000", 1000), ("017", 15), ("1:30", 90), ("-3", -3)):
        assert kinds(f"whole: {text}").whole == value == yaml.safe_load(text)
    for text, number in (("1e-5", 1e-5), ("1e3", 1e3), ("3", 3.0), (".5", 0.5), ("1.0e-3", 1e-3)):
        assert math.isclose(kinds(f"share: {text}").share, number)
    assert kinds("either: 3").either == 3 and kinds("either: no").either == "no"
    assert kinds("mode: no").mode == "no" and kinds('mode: "no"').mode == "no"
    assert kinds("word: ''\nwords: ['no', \"1\", !!str 3]").words == ["no", "1", "3"]


def test_null_is_no_text_of_a_single_field(tmp_path: Path) -> None:
    for null in ("~", "null", ""):
        assert "tasks.name: " in mistake(tmp_path, f"tasks: {{name: {null}}}")


@pytest.mark.parametrize("word", [word for word in WORDS if word not in ("~", "null", "Null")])
def test_an_override_and_an_arm_mean_the_same_as_the_recipe(tmp_path: Path, word: str) -> None:
    assert load(tmp_path, f"tasks: {{name: {word}}}").tasks.name == word
    assert load(tmp_path, "", [f"tasks.name={word}"]).tasks.name == word
    arms = load(tmp_path, f"arms: {{one: {{tasks.name: {word}, customize.lr: 1e-3, customize.live_text: on}}}}")
    assert arms.arm("one").tasks.name == word and arms.arm("one").customize.live_text is True
    assert load(tmp_path, "arms: {one: {}}", [f"arms.one.tasks.name={word}"]).arm("one").tasks.name == word


def test_words_of_a_recipe_come_through_its_resolved_form(tmp_path: Path) -> None:
    recipe = load(tmp_path, "tasks: {class_names: [no, 1984, [on, off], ~], seed_images: {2024-01-01: [1, 0x10]}}")
    assert recipe.tasks.class_names == ["no", "1984", ["on", "off"], "~"]
    assert recipe.tasks.seed_images == {"2024-01-01": ["1", "0x10"]}
    (tmp_path / "again.yaml").write_text(recipe.yaml(), encoding="utf-8")
    assert load_recipe(str(tmp_path / "again.yaml")) == recipe
    assert load(tmp_path, "", ["download.resize_mode=no"]).download.resize_mode == "no"
    assert load(tmp_path, "evaluate: {datasets: {2024: 7}}").evaluate.datasets == {"2024": "7"}


TEXTS = [
    "d #x", "#x", "a#b", "*.csv", "@x", "%x", "&x", "!x", "a: b", "- a", "? a", "| a", "`a", "a\nb", "a=b", "it's",
    "\\n", "1984", "no", "2024-13-45", "é 😀", "x: [",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_word_of_a_command_line_is_one_text(tmp_path: Path, text: str) -> None:
    for path in ("tasks.name", "arms.one.tasks.name", "evaluate.datasets.test"):
        recipe = load(tmp_path, "arms: {one: {}}", [f"{path}={text}"])
        found = [recipe.tasks.name, recipe.arm("one").tasks.name, recipe.evaluate.datasets.get("test")]
        assert found.count(text) == (2 if path == "tasks.name" else 1)
    quoted = yaml.safe_dump(text, default_style='"', allow_unicode=True).strip()
    assert load(tmp_path, "", [f"tasks.name={quoted}"]).tasks.name == text
    assert load(tmp_path, "", [f"tasks.class_names=[{quoted}, b]"]).tasks.class_names == [text, "b"]


def test_a_hash_in_a_word_begins_no_comment(tmp_path: Path) -> None:
    names = "tasks.class_names=[C #, 'a #b', #c, {}]"
    assert load(tmp_path, "", [names.format("[d, e #]")]).tasks.class_names == ["C #", "a #b", "#c", ["d", "e #"]]
    assert load(tmp_path, "", ["tasks.name=\ue000 #"]).tasks.name == "\ue000 #"
    assert load(tmp_path, "", ["tasks.class_names=[\ue000 #]"]).tasks.class_names == ["\ue000 #"]
    for cut in ("tasks.class_names=[a] #b", "tasks.name='a' #b", "seed=5 #b", "seed=#5"):
        assert cut.partition("=")[0] in mistake(tmp_path, "", [cut])
    assert "the key 'a #' is there twice" in mistake(tmp_path, "", ["evaluate.datasets={a #: b, a #: c}"])


@pytest.mark.parametrize("word", [" a", "a ", "a\r", "\ud800", "a\0b", "~", "null", "[a, b]", "{a: b}", "'a", "[a"])
def test_a_word_that_would_be_another_text_is_refused(tmp_path: Path, word: str) -> None:
    assert "tasks.name: " in mistake(tmp_path, "", [f"tasks.name={word}"])


def test_long_lists_and_comments_are_read() -> None:
    names = [f"c{number}" for number in range(90_000)]
    assert parse_yaml(f"a: [{', '.join(names)}]\n" + "#\n" * 1_000_000, "x") == {"a": names}
    merged = ", ".join(f"{{{name}: x}}" for name in names[:10_000])
    assert parse_yaml(f"<<: [{merged}]", "x") == dict.fromkeys(names[:10_000], "x")


def test_anchors_and_merges_are_as_before(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: no}\nb: &b {x: 2, z: [*a]}\nc: {<<: *a, y: 3}\nd: {<<: [*a, *b], w: 4}\n"
    found = typed(parse_yaml(text, "x.yaml"), Any)
    assert found == yaml.safe_load(text)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a: 1\nb: [", "at line 2, column 5"),
        ("a: 1\n\tb: 2", "at line 2, column 1"),
        ("a: 1\na: 2", "the key 'a' is there twice at line 2, column 1"),
        ("a: {b: 1, b: 2}", "the key 'b' is there twice at line 1, column 11"),
        ("? [a]\n: 1", "a key is a word"),
        ("a: !!python/object:os.system x", "the tag python/object:os.system is not allowed at line 1, column 4"),
        ("a: !mine 1", "the tag !mine is not allowed"),
        ("a: *b", "undefined alias"),
        ("a: 1\n---\nb: 2", "line 2, column 1"),
        ("a: \x07", "at line 1, column 4"),
        ("a: &a [*a]", "nested too deeply"),
        ("[" * 3000, "nest"),
        ("- " * 2_000_000, "nested too deeply at line 1, column "),
        ("a: 1\n---\nb: 2", "expected a single document in the stream, but found another"),
        ("a: [1", "at line 1, column 6"),
        ("a: [1\r\n", "at line 2, column 1"),
        ("a: x\ufeff", "the character '\\ufeff' is not allowed at line 1, column 5"),
        ("a: " + "[" * 60 + "]" * 60, "nested too deeply at line 1, column 5"),
        ("a: {<<: [1]}", "<< takes a mapping"),
        ("a: 'b", "at line "),
        ("? a\n" * 700_000, f"more than {MAX_VALUES:,} values at line "),
        ("a: 1\n---\n%TAG !a! b\n", "%TAG is not allowed at line 3, column 1"),
        ("%YAML 9.9\n---\na", "line 1"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text: str, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text.encode(), "x.yaml")
    message = str(caught.value)
    assert message.startswith("x.yaml is not YAML (") and shown in message and message.endswith("; correct that line")
    assert message.isprintable()


def test_aliases_that_unfold_to_more_than_memory_holds_are_refused() -> None:
    lists = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lists += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    maps = ["m0: &m0 {a: 1}"] + [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}" for n in range(1, 10)]
    for bomb in (lists, maps):
        with pytest.raises(ConfigError, match=f"more than {MAX_VALUES:,} values, .* at line"):
            parse_yaml("\n".join(bomb), "x.yaml")


def test_bytes_that_are_no_text_are_shown_where_they_are_and_utf16_is_read() -> None:
    with pytest.raises(ConfigError, match="not UTF-8 text at line 2, column 4"):
        parse_yaml(b"a: 1\nb: \xff", "x.yaml")
    assert parse_yaml("a: é".encode("utf-16"), "x.yaml") == {"a": "é"} == parse_yaml("a: é".encode("utf-8-sig"), "x")


@pytest.mark.parametrize(
    "more, shown",
    [
        ("seed: " + "9" * 5000, "recipe.yaml, line 7, column 7: '9999"),
        ("seed: 9999999999999999999", "line 7, column 7: '9999999999999999999' is no value (an integer has at most 64"),
        ("seed: '9999999999999999999'", "seed: an integer has at most 64 bits"),
        ("arms: {one: {customize.batch_size: '-9999999999999999999'}}", "customize.batch_size: "),
        ("tasks: {class_names: 0x" + "f" * 3_000_000 + "}", "'0xfff"),
        ("seed: 1" + ":59" * 1_000_000, "a value has at most 400 characters"),
        ("seed: 2024-13-45", "line 7, column 7: '2024-13-45' is no value (month must be in 1..12)"),
        ("customize: {lr: .inf}", "customize.lr: "),
        ("customize: {lr: .nan}", "customize.lr: "),
        ("customize: {lr: 1e999}", "customize.lr: "),
        ("arms: {one: {customize.epochs: .nan}}", "customize.epochs: "),
        ("arms: [1]", "arms: "),
        ("no: 1", "no: no such field"),
        ('"a\\nb": 1', "no such field"),
        ("tasks: 3", "tasks: "),
        (f"tasks: {{name: [{'x, ' * 3000}]}}", "tasks.name: "),
    ],
)
def test_a_value_that_cannot_be_meant_is_one_line(tmp_path: Path, more: str, shown: str) -> None:
    assert shown in mistake(tmp_path, more)


@pytest.mark.parametrize(
    "override", ["tasks.names=[a", "tasks.names=" + "[" * 3000, "seed=" + "9" * 5000, "seed=2024-13-45", "a\nb=1", "\n"]
)
def test_an_override_that_cannot_be_meant_is_one_line(tmp_path: Path, override: str) -> None:
    mistake(tmp_path, "", [override])
