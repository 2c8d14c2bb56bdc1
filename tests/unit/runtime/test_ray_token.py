"""The token of Ray is shown to a cluster that is joined by its address."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from react_ray.runtime.ray_token import MODE, TOKEN, TOKEN_PATH, token_place, use_token

PRINT = (
    "import os; from react_ray.runtime.ray_token import use_token; use_token(); print(os.environ.get('RAY_AUTH_MODE'))"
)


def after(first: str) -> str:
    """The mode that is set in a new process after these lines."""
    command = [sys.executable, "-c", f"{first}\n{PRINT}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(MODE, "")
    monkeypatch.delenv(MODE)


def test_without_a_token_nothing_is_set() -> None:
    use_token()
    assert token_place() == "" and MODE not in os.environ


def test_the_file_that_ray_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("secret")
    assert token_place() == f"{tmp_path}/.ray/auth_token"
    assert after("") == "token"
    assert after("import ray") == "None", "Ray has read its environment already"
    monkeypatch.setenv(TOKEN_PATH, "/elsewhere")
    assert token_place() == "/elsewhere"
    monkeypatch.setenv(TOKEN, "secret")
    assert token_place() == TOKEN


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "secret")
    monkeypatch.setenv(MODE, "disabled")
    use_token()
    assert os.environ[MODE] == "disabled"
