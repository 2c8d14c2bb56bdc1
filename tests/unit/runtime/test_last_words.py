"""A command that is ended without a moment to speak is told in one line, and no other is."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from react_ray.runtime.last_words import LINE

PROGRAM = """
import os, signal, sys
from contextlib import nullcontext
from react_ray.ending import exit_code
from react_ray.interrupt import Interruption
from react_ray.runtime.last_words import watch

def command():
    watch()
    watch()
    {ends}

if {is_command}:
    with Interruption() as interruption:
        code = exit_code(command, interruption)
    sys.exit(code)
command()
"""


def run(ends: str, is_command: bool = True) -> tuple[int, list[str]]:
    program = PROGRAM.format(ends=ends, is_command=is_command)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stderr.splitlines()


@pytest.mark.parametrize(
    ("ends", "code"),
    [("os._exit(1)", 1), ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL)],
    ids=["as Ray does", "killed"],
)
def test_a_command_that_is_ended_from_outside_is_told_in_one_line(ends: str, code: int) -> None:
    assert run(ends) == (code, [LINE])


def test_a_command_that_ends_by_itself_or_by_a_signal_says_no_more_than_its_own_words() -> None:
    assert run("pass") == (0, [])
    code, lines = run("raise __import__('react_ray.errors').errors.ConfigError('no column; look')")
    assert code == 2 and lines == ["error: no column; look"]
    code, lines = run("os.kill(os.getpid(), signal.SIGTERM); __import__('time').sleep(60)")
    assert code == 143 and len(lines) == 1 and lines[0].startswith("interrupted; ")


def test_a_program_that_uses_the_package_speaks_for_itself() -> None:
    assert run("os._exit(1)", is_command=False) == (1, [])
