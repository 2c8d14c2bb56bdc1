"""A command that is interrupted says how it goes on and ends; a second command on its places is told to wait."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.small_run import command, contents, react_ray, small_recipe

PATIENCE_S = 180.0  # seconds are promised, and a busy machine may take longer
Reached = Callable[[subprocess.Popen[bytes], str], bool]


def interrupt_when(
    reached: Reached, signum: int, verb: str, recipe: str, *overrides: str, also: Callable[[], None] | None = None
) -> str:
    """Starts a verb, sends it a signal when `reached(driver, stderr so far)`, and returns what it wrote to stderr.

    also: done before the signal is sent, while the driver is stopped.
    """
    log = Path(recipe).parent / "stderr"
    with log.open("wb") as said:
        driver = subprocess.Popen(
            command(verb, recipe, *overrides),
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    while not reached(driver, log.read_text()):
        assert driver.poll() is None, f"it ended (exit code {driver.returncode}) before the signal: {log.read_text()}"
        try:
            driver.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
    below = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGSTOP)  # it does not end before
    if also:
        also()
    driver.send_signal(signum)
    driver.send_signal(signal.SIGCONT)
    assert driver.wait(timeout=PATIENCE_S) == 128 + signum, log.read_text()
    _, alive = psutil.wait_procs(below, timeout=PATIENCE_S)
    assert not alive, "its Ray outlives it"
    return log.read_text()


def printed(text: str) -> Reached:
    return lambda driver, said: text in said


def runs(name: str) -> Reached:
    """True once the driver has a process below it with this name in its command line."""

    def reached(driver: subprocess.Popen[bytes], said: str) -> bool:
        for process in psutil.Process(driver.pid).children(recursive=True):
            try:
                if name in " ".join(process.cmdline()):
                    return True
            except psutil.Error:
                continue
        return False

    return reached


def hint(*places: Path) -> str:
    return f"interrupted; what is done is kept, the same command goes on from {' and '.join(map(str, places))}\n"


def test_an_interrupted_ingest_goes_on_and_meanwhile_a_second_is_told(tmp_path: Path) -> None:
    recipe, database = small_recipe(tmp_path), tmp_path / "database"
    said = interrupt_when(runs("gcs_server"), signal.SIGTERM, "ingest", recipe)
    assert said.endswith(f"starting Ray on this machine ...\n{hint(database)}")

    def second() -> None:
        told = react_ray("ingest", recipe)
        assert told.returncode == 2 and told.stdout == ""
        assert told.stderr.startswith(f"error: {tmp_path}/run is in use: `react-ray ingest` (process ")
        told = react_ray("ingest", recipe, f"out={tmp_path}/other")
        assert told.returncode == 2 and told.stdout == ""
        assert f"error: {database} is in use: `react-ray ingest` (process " in told.stderr

    said = interrupt_when(printed("\ningest         0/6 parts"), signal.SIGINT, "ingest", recipe, also=second)
    assert said.endswith(hint(database)) and "Traceback" not in said
    left = tmp_path / "run/.writing-left"
    left.write_bytes(b"of a killed writer")
    done = react_ray("ingest", recipe)
    assert done.returncode == 0, done.stderr
    assert not left.exists() and len(list(database.glob("images/part-*.parquet"))) == 6
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []


@pytest.mark.slow
def test_a_run_that_is_interrupted_again_and_again_ends_as_one_that_was_left_alone(
    finished: Path, tmp_path: Path
) -> None:
    recipe, places = small_recipe(tmp_path), (tmp_path / "database", tmp_path / "run")
    moments: list[tuple[Reached, int]] = [
        (runs("raylet"), signal.SIGINT),
        (runs("ray::"), signal.SIGTERM),
        (printed("\nembed          0/6"), signal.SIGINT),
        (printed("\nindex          0/"), signal.SIGTERM),
        (printed("\nsearch "), signal.SIGINT),
        (printed("\ntrain random starting workers"), signal.SIGINT),
        (runs("RayTrainWorker"), signal.SIGTERM),
        (printed("\ntrain other "), signal.SIGINT),  # after a training in the same process
        (printed("steps "), signal.SIGTERM),
        (printed("\nevaluate "), signal.SIGINT),
    ]
    for reached, signum in moments:
        said = interrupt_when(reached, signum, "run", recipe)
        assert said.count(hint(*places)) == 1 and "Traceback" not in said and "error" not in said, said
    done = react_ray("run", recipe)
    assert done.returncode == 0, done.stderr[-3000:]
    assert contents(*map(str, places)) == contents(str(finished / "database"), str(finished / "run"))


@pytest.mark.slow
def test_a_training_whose_controller_is_killed_ends_with_one_line(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    log = tmp_path / "stderr"
    with log.open("wb") as said:
        driver = subprocess.Popen(command("run", recipe), stdout=subprocess.DEVNULL, stderr=said)
    while not runs("RayTrainWorker")(driver, ""):
        assert driver.poll() is None, log.read_text()
        try:
            driver.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
    for process in psutil.Process(driver.pid).children(recursive=True):
        if "TrainController" in " ".join(process.cmdline()):
            process.kill()
    assert driver.wait(timeout=PATIENCE_S) == 1
    last = log.read_text().splitlines()[-1]
    assert last.startswith("error: customize random, other, gated_image: the controller of Ray Train was lost")
    assert last.endswith("run the same command again to go on") and "Traceback" not in log.read_text()
