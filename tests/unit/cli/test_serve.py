"""serve: what cannot be meant is told in one line, before Ray starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.cli import main
from tests.support.searchable import many, write_searchable


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and stderr of `react-ray serve`."""
    code = 0
    try:
        main(["serve", *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, capsys.readouterr().err


RECIPE = "database: {0}/database\nout: {0}/run\nbackbone: {{name: ViT-B-32}}\ningest: {{source: sample://}}\n"


def test_one_thing_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    said = "error: name one thing to serve: a RECIPE, or --demo for the sample\n"
    assert ended(capsys) == (2, said)
    assert ended(capsys, "--demo", "recipe.yaml") == (2, said)


def test_a_database_that_is_not_embedded_says_what_to_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(tmp_path))
    code, said = ended(capsys, f"{tmp_path}/recipe.yaml")
    assert code == 2 and said.count("\n") == 1 and "run `react-ray embed RECIPE` first" in said


def test_others_are_not_let_in_without_a_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(tmp_path))
    write_searchable(f"{tmp_path}/database", [many(3)])
    code, said = ended(capsys, f"{tmp_path}/recipe.yaml", "--host", "0.0.0.0")
    assert code == 2 and said.startswith("error: serve.host=0.0.0.0 lets others in") and "--insecure" in said
    code, said = ended(capsys, f"{tmp_path}/recipe.yaml", "serve.api_key_env=NOT_SET_ANYWHERE")
    assert code == 2 and "serve.api_key_env=NOT_SET_ANYWHERE, and this variable is not set" in said
