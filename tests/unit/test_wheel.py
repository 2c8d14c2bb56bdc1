"""The wheel holds what a clone holds: packages, recipes and the sample. `make wheel-test` runs the demo of a wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHERE = "import react_ray; print(react_ray.__file__)"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the built wheel is unpacked."""
    clone, folder = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "react_ray", clone / "react_ray", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", ".", str(clone)], check=True, cwd=folder)
    (wheel,) = folder.glob("react_ray-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def files(package: Path) -> set[str]:
    found = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    return {path for path in found if "__pycache__" not in path}


def test_the_wheel_has_every_file_of_the_package(installed: Path) -> None:
    there = files(installed / "react_ray")
    assert there == files(ROOT / "react_ray")
    assert {"recipes/sample.yaml", "sample/pool.parquet", "stages/run.py"} <= there


def test_the_demo_can_be_planned_outside_of_a_clone(installed: Path, tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(installed)}
    python = [sys.executable, "-c", WHERE]
    assert subprocess.run(python, cwd=tmp_path, env=env, capture_output=True, text=True).stdout.startswith(
        str(installed)
    )
    plan = [sys.executable, "-m", "react_ray.cli", "plan", "recipes://sample.yaml", "--quick"]
    done = subprocess.run(plan, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "problem" not in done.stdout and f"{tmp_path}/runs/sample" in done.stdout
