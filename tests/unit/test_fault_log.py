"""A fault of ours is one line, and its traceback is in a file that may be shared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from react_ray.fault_log import KEPT, LONGEST, told


def fault(message: str) -> ValueError:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


def logged(line: str) -> Path:
    found = re.search(r"the traceback is in (\S+); please report it with that file$", line)
    assert found, line
    return Path(found[1])


def test_the_line_names_the_exception_and_the_file_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    line = told(fault("two\nlines at http://me:hidden@host/" + "x" * 1000))
    assert line.startswith("ValueError: two lines at http://***@host/xxx") and "\n" not in line
    assert len(line) < LONGEST + 300
    text = logged(line).read_text()
    assert logged(line).parent == tmp_path / "react_ray" and logged(line).stat().st_mode & 0o777 == 0o600
    assert "Traceback" in text and "in fault" in text and "react_ray 0." in text and "hidden" not in text


def test_a_state_folder_that_cannot_be_written_is_replaced_by_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert logged(told(fault("x"))).parent.parent == tmp_path
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert told(fault("x")).endswith("set XDG_STATE_HOME to a folder that can be written, and try again")


def test_old_files_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "react_ray"
    folder.mkdir()
    for number in range(KEPT + 5):
        (folder / f"error-2000-{number:03d}.log").write_text("old")
    newest = logged(told(fault("x")))
    left = sorted(folder.iterdir())
    assert len(left) == KEPT and left[-1] == newest and left[0].name == "error-2000-006.log"
