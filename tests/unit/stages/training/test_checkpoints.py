from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
import torch

from react_ray.errors import ArtifactMismatch, StorageError
from react_ray.stages.training.checkpoints import Checkpoints
from react_ray.storage import open_storage

SECONDS = 30


def checkpoints(folder: Path, keep_last: int = 2, digest: str = "this") -> Checkpoints:
    return Checkpoints(open_storage(str(folder)), digest, keep_last)


def state(step: int, size: int = 4) -> dict[str, torch.Tensor]:
    return {"weight/a": torch.full((size,), float(step)), "exp_avg/a": torch.zeros(size)}


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """What a full disk does to a write, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_saved_last_comes_back_and_the_oldest_go(tmp_path: Path) -> None:
    ours = checkpoints(tmp_path)
    assert ours.newest() == 0
    (tmp_path / "step_00000003").mkdir()
    (tmp_path / "step_00000003/.writing-half").write_text("of a worker that was killed")
    for step in (3, 6, 9):
        ours.save(step, state(step))
        ours.confirm()
    ours.wait()
    assert ours.steps() == [6, 9] and checkpoints(tmp_path).newest() == 9
    again = checkpoints(tmp_path).load(9)
    assert again.keys() == state(9).keys() and torch.equal(again["weight/a"], state(9)["weight/a"])
    assert not (tmp_path / "step_00000003").exists()


def test_a_checkpoint_counts_once_what_belongs_to_it_has_happened(tmp_path: Path) -> None:
    ours, happened = checkpoints(tmp_path), Event()
    ours.save(3, state(3), lambda: happened.wait(SECONDS))
    ours.confirm()
    assert checkpoints(tmp_path).newest() == 0, "save and confirm return while it waits"
    happened.set()
    ours.wait()
    assert checkpoints(tmp_path).newest() == 3


def test_a_checkpoint_that_no_finite_loss_confirmed_never_counts_and_costs_no_other(tmp_path: Path) -> None:
    ours = checkpoints(tmp_path, keep_last=1)
    ours.confirm()  # nothing was saved yet
    ours.save(3, state(3))
    ours.confirm()
    ours.save(6, state(6))
    ours.wait()
    assert ours.steps() == [3], "written, and not yet confirmed"
    ours.drop()
    assert checkpoints(tmp_path).steps() == [3] and not list(tmp_path.glob("step_00000006/*"))
    assert torch.equal(ours.load(3)["weight/a"], state(3)["weight/a"])
    ours.save(9, state(9))
    ours.confirm()
    ours.drop()
    assert checkpoints(tmp_path).steps() == [9], "what was confirmed is not dropped"


def test_a_full_disk_is_an_error_and_the_last_checkpoint_is_kept(tmp_path: Path) -> None:
    ours = checkpoints(tmp_path)
    ours.save(3, state(3))
    ours.confirm()
    ours.wait()
    with no_file_larger_than(100_000):
        ours.save(6, state(6, size=1_000_000))
        ours.confirm()
        with pytest.raises(
            StorageError,
            match=r"could not be written, the last one is of step 3: .*make room .*run the same command again",
        ):
            ours.wait()
    assert checkpoints(tmp_path).newest() == 3
    ours.save(6, state(6))
    ours.confirm()
    ours.wait()
    assert checkpoints(tmp_path).newest() == 6


def test_checkpoints_of_another_training_are_refused(tmp_path: Path) -> None:
    ours = checkpoints(tmp_path)
    ours.save(3, state(3))
    ours.confirm()
    ours.wait()
    with pytest.raises(ArtifactMismatch, match=r"another configuration or data; delete .* or name another `out`"):
        checkpoints(tmp_path, digest="other").newest()
