"""One grammar for every verb; mistakes end in one line that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from react_ray import __version__
from react_ray.cli import SECTIONS, main
from react_ray.field_help import all_fields

VERBS = [*SECTIONS, "run"]
SAMPLE = "name: x\ndatabase: {0}/database\nout: {0}/run\nbackbone: {{name: ViT-B-32}}\ningest: {{source: sample://}}\n"


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    code = 0
    try:
        main(list(arguments))
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, *capsys.readouterr()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, "--version") == (0, f"react_ray {__version__}\n", "")


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ended(capsys, "--help")
    assert code == 0 and all(f"\n  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("verb", list(SECTIONS))
def test_help_of_a_verb_lists_the_fields_of_its_sections_with_default_and_meaning(
    capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    code, out, _ = ended(capsys, verb, "--help")
    assert code == 0 and "RECIPE" in out
    for path, info in all_fields():
        if path.partition(".")[0] in SECTIONS[verb]:
            assert f"  {path} = " in out and info.description and info.description in out


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_recipe_is_one_line_that_ends_with_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: str
) -> None:
    code, out, err = ended(capsys, verb, f"{tmp_path}/gone.yaml")
    assert (code, out) == (2, "")
    assert (
        err
        == f"error: cannot read {tmp_path}/gone.yaml: No such file or directory; check the path and its permissions\n"
    )


@pytest.mark.parametrize(
    "override, shown",
    [
        ("customize.lrr=1", "customize.lrr: no such field; did you mean customize.lr?"),
        ("seed", "write for example seed=1"),
        ("customize.lr=fast", "correct it in the recipe or write customize.lr=..."),
    ],
)
def test_a_wrong_override_is_one_line_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, override: str, shown: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(SAMPLE.format(tmp_path))
    code, out, err = ended(capsys, "ingest", f"{tmp_path}/recipe.yaml", override)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.endswith(f"{shown}\n") and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize("arguments", [("embedd", "recipe.yaml"), ("embed",), ("embed", "--recipe", "r.yaml")])
def test_a_command_that_cannot_be_meant_ends_with_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    code, out, err = ended(capsys, *arguments)
    assert code == 2 and out == "" and "Usage:" in err and "Traceback" not in err


def test_every_verb_has_a_job_of_the_same_name() -> None:
    jobs = {path.stem for path in (Path(__file__).parents[2] / "jobs").glob("*.py")}
    assert jobs == {*SECTIONS, "react"}


UV = """
import react_ray, ray
from ray._private import ray_constants
assert not ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV, "Ray would package the working directory under `uv run`"
"""


def test_ray_packages_no_working_directory_under_uv_run() -> None:
    env = {name: value for name, value in os.environ.items() if name != "RAY_ENABLE_UV_RUN_RUNTIME_ENV"}
    ended = subprocess.run([sys.executable, "-c", UV], capture_output=True, text=True, env=env)
    assert ended.returncode == 0, ended.stderr


CLI = [sys.executable, "-m", "react_ray.cli"]


@pytest.mark.parametrize(("given", "used"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_that_wait_leave_their_core_to_others_unless_the_user_says_otherwise(
    given: dict[str, str], used: str
) -> None:
    code = "import os; from react_ray.cli import main; main(['help', 'seed']); print(os.environ['OMP_WAIT_POLICY'])"
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.splitlines()[-1:] == [used], done.stderr


def test_a_fault_of_ours_is_one_line_that_names_its_log(tmp_path: Path) -> None:
    broken = "import react_ray.pairs.stats as s; s.stats = None; from react_ray.cli import main; main(['stats', 'x'])"
    ended = subprocess.run(
        [sys.executable, "-c", broken],
        capture_output=True,
        text=True,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
    )
    [log] = (tmp_path / "react_ray").iterdir()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"error: TypeError: 'NoneType' object is not callable; the traceback is in {log}; please report it with that "
        "file\n"
    )
    assert "Traceback" in log.read_text()


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([*CLI, "embed", "--help"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_no_room_for_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run([*CLI, "--version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: cannot write: No space left on device;") and ended.stderr.count("\n") == 1
