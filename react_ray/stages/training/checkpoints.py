"""Writes and reads the checkpoints of one training: unsharded trainable weights and Adam moments, on any storage.

A checkpoint is `step_N/state.safetensors` and, written last, `step_N/checkpoint.json`; it exists if and only if the
latter exists, and it is written only after a finite loss was seen under its weights. It fits any number of workers
(zero_state.py).

Why not the checkpoints of Ray Train (`report`, `get_checkpoint`, `num_to_keep`): they are one list for all arms of a
run, so one arm would delete another's, and that list is written over in place, so a kill in that moment would lose all
of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from react_ray.clip.weights import read_weights, weights_bytes
from react_ray.errors import ArtifactMismatch, StorageError
from react_ray.metadata import read_json
from react_ray.storage import Storage, local_file

STATE, MARKER = "state.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class Marker:
    step: int
    digest: str  # of the training that the checkpoint belongs to


class Checkpoints:
    """One worker writes, every worker may read. One checkpoint at most is being written: the next one waits for it."""

    def __init__(self, storage: Storage, digest: str, keep_last: int) -> None:
        self.storage, self.digest, self.keep_last = storage, digest, max(1, keep_last)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._unconfirmed: tuple[int, dict[str, Tensor], Callable[[], Any] | None] | None = None
        self._being_written: Future[None] | None = None

    def save(self, step: int, state: dict[str, Tensor], before: Callable[[], Any] | None = None) -> None:
        """Keeps `state`, which belongs to the checkpoint from now on, until `confirm` or `drop` is called.

        before: is called, and must return, before the checkpoint counts.
        """
        assert self._unconfirmed is None, "the checkpoint before was neither confirmed nor dropped"
        self._unconfirmed = step, state, before

    def confirm(self) -> None:
        """A finite loss was seen under the weights that were saved last: writes them, in a thread.

        Waits for the checkpoint before, and raises what `wait` raises.
        """
        if self._unconfirmed is not None:
            self.wait()
            self._being_written = self._thread.submit(self._write, *self._unconfirmed)
            self._unconfirmed = None

    def drop(self) -> None:
        """Forgets what was saved and not confirmed; waits for what was confirmed."""
        self._unconfirmed = None
        self.wait()

    def wait(self) -> None:
        """Until what was confirmed lies in storage. StorageError if it could not be written; older checkpoints are
        kept."""
        writing, self._being_written = self._being_written, None
        if writing is None:
            return
        try:
            writing.result()
        except StorageError as error:
            kept = self.steps()
            last = f"the last one is of step {kept[-1]}" if kept else "there is none yet"
            raise StorageError(
                f"a checkpoint could not be written, {last}: {error}; then run the same command again to go on from it"
            ) from error

    def newest(self) -> int:
        """The step of the newest checkpoint, 0 without one. ArtifactMismatch if it belongs to another training."""
        steps = self.steps()
        if not steps:
            return 0
        name = _name(steps[-1])
        marker = read_json(self.storage, f"{name}/{MARKER}", Marker, f"delete {name}; the training goes on without it")
        if marker.digest != self.digest:
            raise ArtifactMismatch(
                f"{self.storage.uri}/{name} belongs to another configuration or data; delete {self.storage.uri} or "
                "name another `out`"
            )
        return steps[-1]

    def load(self, step: int) -> dict[str, Tensor]:
        return read_weights(local_file(f"{self.storage.uri}/{_name(step)}/{STATE}"))

    def steps(self) -> list[int]:
        marked = [path for path in self.storage.list() if path.endswith(f"/{MARKER}")]
        return sorted(int(path.split("/")[0].removeprefix("step_")) for path in marked)

    def _write(self, step: int, state: dict[str, Tensor], before: Callable[[], Any] | None) -> None:
        name = _name(step)
        self.storage.write(f"{name}/{STATE}", weights_bytes(state, {}))
        if before:
            before()
        self.storage.write(f"{name}/{MARKER}", json.dumps(asdict(Marker(step, self.digest))).encode())
        for old in self.steps()[: -self.keep_last]:
            self.storage.delete(f"{_name(old)}/{MARKER}")
            self.storage.delete_all(_name(old))


def _name(step: int) -> str:
    return f"step_{step:08d}"
