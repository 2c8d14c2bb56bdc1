"""`react-ray init` as a user runs it: by flags, by answers on a terminal, and where it cannot ask."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from react_ray.cli import main
from react_ray.recipe import load_recipe
from react_ray.runtime.most_pairs import check_schedules


def test_flags_alone_write_a_recipe_and_say_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["init", "birds.yaml", "--source", "sample://pool.parquet", "--classes", "heron, owl|barn owl", "--yes"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("sample://pool.parquet: images with captions; columns: image = image, caption = caption;")
    assert said[1] == "birds.yaml: a recipe of 2 classes. Next:"
    assert said[2].strip().startswith("react-ray run birds.yaml --until retrieve")
    recipe = load_recipe("birds.yaml")
    assert (recipe.name, recipe.out) == ("birds", f"{tmp_path}/runs/birds") and recipe.backbone.pretrained == "openai"


def test_the_demo_needs_no_answer_and_no_weights_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["init", "--demo"])
    recipe = load_recipe("recipe.yaml")
    assert recipe.backbone.pretrained.startswith("sample://") and recipe.retrieve.keys == ["text"]
    assert "icon of {}" in recipe.tasks.templates, "nobody writes 'a photo of' under a drawing"
    assert not recipe.embed.images and recipe.embed.captions, "only captions are searched"
    check_schedules(recipe)


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        main(["init", str(path), "--demo"])
    assert stopped.value.code == 2 and path.read_text() == "mine"
    assert capsys.readouterr().err.endswith("is there already; name another file, or write over it with --force\n")
    main(["init", str(path), "--demo", "--force"])
    assert load_recipe(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "init needs --source where it cannot ask; add it, or try `react-ray init --demo`"),
        (["--source", "sample://pool.parquet"], "init needs --classes where it cannot ask; "),
        (["--source", "sample://gone.parquet", "--classes", "a, b"], "gone.parquet"),
        (["--source", "sample://pool.parquet", "--classes", "a, b, a"], "'a' is a name of two classes; "),
        (["--demo", "--out", "sample://x"], "is among the files of react_ray; "),
        (["--demo", "--test", "sample://pool.parquet"], "evaluate.datasets.test has no column `label`"),
    ],
)
def test_nothing_is_written_if_the_recipe_would_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["init", f"{tmp_path}/recipe.yaml", "--yes", *arguments])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_one_class_is_said_to_be_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", f"{tmp_path}/one.yaml", "--demo", "--classes", "cat"])
    assert "with one class every image is of it" in capsys.readouterr().out


def test_on_a_terminal_it_asks_for_what_is_missing(tmp_path: Path) -> None:
    master, terminal = pty.openpty()
    asked = subprocess.Popen(
        [sys.executable, "-m", "react_ray.cli", "init", "birds.yaml"], cwd=tmp_path, stdin=terminal, stdout=terminal
    )
    os.close(terminal)
    os.write(master, b"sample://pool.parquet\nheron, owl\n\n\nruns/mine\n")
    assert asked.wait(timeout=300) == 0
    os.close(master)
    recipe = load_recipe(str(tmp_path / "birds.yaml"))
    assert recipe.tasks.class_names == ["heron", "owl"] and recipe.out.endswith("/runs/mine")
    assert recipe.backbone.name.startswith("ViT-") and not recipe.evaluate.datasets
