"""A training whose workers are killed or fail, or whose disk is full, goes on or says what to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import ray._private.state
from safetensors.torch import load_file, save_file

from react_ray.errors import PartFailed, StorageError
from react_ray.recipe import Recipe, load_recipe
from tests.support.small_run import contents

ARM = "gated_image"
TRACE = ("step", "loss", "lr", "grad_norm", "logit_scale")


BEFORE = ("database", "run/queries", "run/retrieved", "run/images")


@pytest.fixture
def untrained(finished: Path, tmp_path: Path) -> Path:
    """A run up to its training."""
    for name in BEFORE:
        shutil.copytree(finished / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def on_a_small_disk(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """As `untrained`, with `out` on a disk of its own of 10 MB."""
    disk = tmp_path / "run"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    try:
        for name in BEFORE:
            shutil.copytree(finished / name, tmp_path / name)
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def recipe_of(finished: Path, folder: Path, *changes: str, **of_arm: object) -> Recipe:
    arms = json.dumps(
        {ARM: {"customize.epochs": 3.2, **{f"customize.{name}": value for name, value in of_arm.items()}}}
    )
    return load_recipe(
        str(finished / "recipe.yaml"), [f"database={folder}/database", f"out={folder}/run", f"arms={arms}", *changes]
    )


def trace(folder: Path) -> list[list[float]]:
    lines = (folder / f"run/metrics/train-{ARM}.jsonl").read_text().splitlines()
    return [[json.loads(line)[name] for name in TRACE] for line in lines]


def checkpoints(folder: Path) -> list[int]:
    marked = (folder / f"run/arms/{ARM}/checkpoints").glob("step_*/checkpoint.json")
    return sorted(int(path.parent.name.removeprefix("step_")) for path in marked)


@pytest.mark.slow
def test_a_training_whose_workers_are_killed_goes_on_by_itself_and_ends_as_one_that_was_left_alone(
    finished: Path, untrained: Path, local_ray: None
) -> None:
    from react_ray.stages import customize

    victims: list[int] = []
    ended = threading.Event()
    killer = threading.Thread(target=kill_two_workers, args=(untrained, ended, victims))
    killer.start()
    try:
        [model] = customize.run(recipe_of(finished, untrained))
    finally:
        ended.set()
        killer.join()
    assert len(set(victims)) == 2, "no two workers were killed"
    assert trace(untrained) == trace(finished) and len(trace(finished)) == 48
    assert model.content == contents(str(finished / "database"), str(finished / "run"))[f"run/arms/{ARM}/model"]


def kill_two_workers(folder: Path, ended: threading.Event, victims: list[int]) -> None:
    """kill -9: one worker once there is a checkpoint, and one of those that came then once there is a later
    checkpoint."""
    seen = 0
    for place in (0, -1):
        while not checkpoints(folder) or checkpoints(folder)[-1] <= seen:
            if ended.wait(0.01):
                return
        seen = checkpoints(folder)[-1]
        alive = [
            actor
            for actor in ray._private.state.actors().values()
            if actor["State"] == "ALIVE" and "RayTrainWorker" in actor["ActorClassName"]
        ]
        victims.append(sorted(actor["Pid"] for actor in alive)[place])
        os.kill(victims[-1], signal.SIGKILL)


@pytest.mark.slow
def test_an_elastic_training_that_fails_at_every_try_ends_and_says_why(
    finished: Path, untrained: Path, local_ray: None
) -> None:
    from react_ray.stages import customize

    shutil.copytree(finished / f"run/arms/{ARM}/checkpoints", untrained / f"run/arms/{ARM}/checkpoints")
    damaged = untrained / f"run/arms/{ARM}/checkpoints/step_{checkpoints(untrained)[-1]:08d}/state.safetensors"
    state = load_file(damaged)
    del state["weight/logit_scale"]
    save_file(state, damaged)
    with pytest.raises(
        PartFailed,
        match=r"at every try: KeyError: 'weight/logit_scale' .*zero_state\.py:\d+.*run the same command again",
    ):
        customize.run(recipe_of(finished, untrained, "cluster.part_retries=1", min_workers=1))
    assert not (untrained / f"run/arms/{ARM}/model/gated.safetensors").exists()


@pytest.mark.slow
def test_a_training_whose_disk_is_full_says_so_keeps_its_checkpoint_and_goes_on_when_there_is_room(
    finished: Path, on_a_small_disk: Path, local_ray: None
) -> None:
    from react_ray.stages import customize

    folder, recipe = on_a_small_disk, recipe_of(finished, on_a_small_disk, "cluster.part_retries=0")
    ended = threading.Event()
    filler = threading.Thread(target=fill_the_disk, args=(folder, ended))
    filler.start()
    try:
        with pytest.raises(StorageError, match=r"No space left on device.*run the same command again") as met:
            customize.run(recipe)
    finally:
        ended.set()
        filler.join()
    assert "\n" not in str(met.value)
    kept = checkpoints(folder)[-1]
    assert 4 <= kept < 48
    (folder / "run/filler").unlink()
    [model] = customize.run(recipe)
    assert trace(folder) == trace(finished)
    assert model.content == contents(str(finished / "database"), str(finished / "run"))[f"run/arms/{ARM}/model"]


def fill_the_disk(folder: Path, ended: threading.Event) -> None:
    """To its last byte, once there is a checkpoint."""
    while not checkpoints(folder):
        if ended.wait(0.01):
            return
    with (folder / "run/filler").open("wb", buffering=0) as file, suppress(OSError):
        while not ended.is_set():
            file.write(bytes(4096))
