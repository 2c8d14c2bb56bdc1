"""Every field of a recipe can be found from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from react_ray.cli import SECTIONS, main
from react_ray.errors import ConfigError
from react_ray.field_help import all_fields, help_of, overview
from react_ray.recipe import Recipe

FIELDS = dict(all_fields())


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    try:
        main(list(arguments))
    except SystemExit as ended:
        assert not ended.code
    return capsys.readouterr().out


def test_the_help_of_run_has_every_field_the_runs_own_first_and_its_width_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = output(capsys, "run", "--help")
    places = {path: out.index(f"\n  {path} = ") for path in FIELDS}
    assert {"seed", "out", "name", "customize.backbone.name", "retrieve.dedup.url", "cluster.address"} <= set(FIELDS)
    assert places["out"] < places["tasks.class_names"] < places["retrieve.k"] < places["cluster.num_cpus"]
    assert all(info.description and info.description in out for info in FIELDS.values())


@pytest.mark.parametrize("verb", list(SECTIONS))
def test_every_verb_has_the_fields_of_the_run_and_of_its_width(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    out = output(capsys, verb, "--help")
    assert all(f"\n  {path} = " in out for path in ("out", "database", "seed", "cluster.num_cpus"))


def test_help_of_a_section_and_of_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\n  index.recall = 0.95\n" in output(capsys, "help", "index")
    out = output(capsys, "help", "recall")
    assert out.startswith("index.recall\n  target recall") and "changing it changes results" in out
    assert "index:\n      recall: ..." in out
    assert "type: hits or random or string" in help_of("retrieve.selection")
    assert "changes no result" in help_of("cluster.num_cpus")
    assert help_of("name").startswith("name\n"), "a whole name goes before the ends of names"
    assert help_of("batch_size").count("\n  default: ") >= 2
    assert all(name in overview() for name in Recipe.model_fields)


@pytest.mark.parametrize("word, said", [("recal", "did you mean"), ("xyzzy", "the sections are tasks, backbone")])
def test_what_is_no_field(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"no section and no field is named {word}; {said}"):
        help_of(word)


@pytest.mark.parametrize("path", list(FIELDS))
def test_every_field_explains_itself(path: str) -> None:
    assert help_of(path).startswith(f"{path}\n") and f"{path}=..." in help_of(path)


@pytest.mark.parametrize(
    "typed, offered",
    [
        ("react-ray stat", ["stats", "status"]),
        ("react-ray run r.yaml customize.lora_r", ["customize.lora_rank="]),
        ("react-ray help index.rec", ["index.recall"]),
        ("react-ray run ./", ["./sub/", "./mine.yaml"]),
    ],
)
def test_the_shell_completes(tmp_path: Path, typed: str, offered: list[str]) -> None:
    for name in ("mine.yaml", "notes.txt", "sub/x.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    asking = {"_REACT_RAY_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed}
    command = [sys.executable, "-c", "import sys; sys.argv = ['react-ray']; from react_ray.cli import main; main()"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | asking)
    assert all(word in ended.stdout for word in offered), ended
    assert "notes.txt" not in ended.stdout
