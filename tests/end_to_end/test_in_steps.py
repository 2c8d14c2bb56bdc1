"""A run in steps, as somebody makes it who looks before training: class names alone, then a model, then more of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from react_ray.artifact import open_artifact
from react_ray.cli import main
from react_ray.kinds import PREDICTIONS
from react_ray.uri import SAMPLE_DIR
from tests.support.small_run import small_recipe

# In a process of its own, which fails if it has loaded Ray, and so if it could have started it.
ANSWER = """
import sys
from react_ray.cli import main
main(sys.argv[1:])
assert not {"torch", "ray", "faiss"} & set(sys.modules), "there is nothing to do, so nothing of it is needed"
"""
TEST = "evaluate.datasets.test=sample://test.parquet"
ARM = "arms.other.customize.method=linear"


def written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("part-*")}


def test_class_names_alone_become_a_model_in_steps_and_the_run_takes_more_later(
    local_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest = {"source": "sample://pool.parquet", "max_rows": 400, "rows_per_part": 200}
    arms = {"first": {"customize.epochs": 8.0, "customize.num_workers": 1}}
    recipe, run = small_recipe(tmp_path, evaluate={}, arms=arms, ingest=ingest), tmp_path / "run"
    own_set = shutil.copy(SAMPLE_DIR / "validation.parquet", tmp_path / "set.parquet")
    own = f"evaluate.datasets.validation={own_set}"

    main(["run", recipe, "--until", "retrieve"])
    out = capsys.readouterr().out
    assert f"look at it: react-ray show {run}" in out and "which comes to customize, report" in out
    assert (run / "retrieved/manifest.json").exists() and not (run / "arms").exists()

    main(["run", recipe])
    out, err = capsys.readouterr()
    assert "evaluate   left out, because evaluate.datasets is empty" in err
    assert "There are no scores." in out and "report.html" in out
    assert (run / "arms/first/model/manifest.json").exists() and (run / "report.html").exists()
    assert not (run / "scores").exists()

    before = written(tmp_path)
    main(["run", recipe, ARM, own])
    assert written(tmp_path).items() >= before.items(), "what was there was done again"
    places = ("scores/base", "arms/first/scores", "arms/other/scores", "scores/pixels.retrieved")
    scores = {name: run / name for name in places}
    for place in scores.values():
        assert {row["dataset"] for row in open_artifact(str(place), PREDICTIONS).facts.scores} == {"validation"}

    shutil.copy(SAMPLE_DIR / "test.parquet", own_set)
    with pytest.raises(SystemExit):
        main(["run", recipe, ARM, own])
    err = capsys.readouterr().err
    assert "evaluate.datasets.validation are not those that were scored; give the set of now another name" in err

    before, newer = written(tmp_path), f"evaluate.datasets.newer={own_set}"
    main(["run", recipe, ARM, TEST, newer])
    assert written(tmp_path).items() >= before.items(), "a set that was scored was scored again"
    for place in scores.values():
        found = {row["dataset"] for row in open_artifact(str(place), PREDICTIONS).facts.scores}
        assert found == {"test", "validation", "newer"}
    table = capsys.readouterr().out

    for verb in ("run", "embed", "customize", "evaluate"):
        command = [sys.executable, "-c", ANSWER, verb, recipe, ARM, TEST, newer]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == "nothing to do, it is finished already:\n"
        if verb == "run":
            assert ended.stdout.strip() in table

    main(["evaluate", recipe, ARM, TEST, newer, "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in rows} == {"base", "first", "other", "pixels.retrieved"}
    assert {row["dataset"] for row in rows} == {"test", "validation", "newer"}
    assert {row["protocol"] for row in rows} == {"zero-shot"}
