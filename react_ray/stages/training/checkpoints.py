"""Checkpoints of a training on storage, written beside it: only what trains and what AdamW remembers of it.

`step_N/state.safetensors`, then `step_N/checkpoint.json`: a checkpoint exists iff that exists, and it is written only once
a finite loss was seen under these weights. Takes whole tensors (sharded.py), gives them back to any number of workers.
Next: train_worker.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor

from react_ray.clip.weights import read_weights, weights_bytes
from react_ray.errors import ArtifactMismatch, StorageError
from react_ray.storage import Storage, local_file

STATE, MARKER = "state.safetensors", "checkpoint.json"


class Checkpoints:
    """One worker writes; every worker may read. At most one checkpoint is on its way: `save` waits for the one before."""

    def __init__(self, storage: Storage, digest: str, keep_last: int) -> None:
        self.storage, self.digest, self.keep_last = storage, digest, max(1, keep_last)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._on_its_way: Future[None] | None = None
        self._unconfirmed: tuple[int, Callable[[], Any] | None] | None = None

    def save(self, step: int, state: dict[str, Tensor], before: Callable[[], Any] | None = None) -> None:
        """Returns at once; `state` is the checkpoint's from now on. It counts from `confirm` on; without, `drop` must come.

        before: what must have happened when it counts. Raises what became of the last one, as `wait` does.
        """
        assert self._unconfirmed is None, "the checkpoint before was neither confirmed nor dropped"
        self.wait()
        self._on_its_way = self._thread.submit(self._write, step, state)
        self._unconfirmed = step, before

    def confirm(self) -> None:
        """A finite loss was seen under the weights that were saved last: they count as soon as they are written. Returns at once."""
        if self._unconfirmed is not None:
            (step, before), written = self._unconfirmed, self._on_its_way
            self._on_its_way, self._unconfirmed = self._thread.submit(self._count, written, step, before), None

    def drop(self) -> None:
        """What was saved and not confirmed is gone; what was confirmed lies in storage. StorageError as of `wait`."""
        unconfirmed, self._unconfirmed = self._unconfirmed, None
        self.wait()
        if unconfirmed is not None:
            self.storage.delete_all(_name(unconfirmed[0]))

    def wait(self) -> None:
        """Until what was saved lies in storage. StorageError if it could not be written: the ones before it are kept."""
        coming, self._on_its_way = self._on_its_way, None
        if coming is None:
            return
        try:
            coming.result()
        except StorageError as error:
            kept = self.steps()
            last = f"the last one is of step {kept[-1]}" if kept else "there is none yet"
            raise StorageError(
                f"a checkpoint could not be written, {last}: {error}; then run the same command again to go on from it"
            ) from error

    def newest(self) -> int:
        """Its step; 0 without one. ArtifactMismatch if it belongs to another training."""
        steps = self.steps()
        if not steps:
            return 0
        name = _name(steps[-1])
        if json.loads(self.storage.read(f"{name}/{MARKER}"))["digest"] != self.digest:
            raise ArtifactMismatch(
                f"{self.storage.uri}/{name} belongs to another configuration or data; delete {self.storage.uri} or name another `out`"
            )
        return steps[-1]

    def load(self, step: int) -> dict[str, Tensor]:
        return read_weights(local_file(f"{self.storage.uri}/{_name(step)}/{STATE}"))

    def steps(self) -> list[int]:
        marked = [path for path in self.storage.list() if path.endswith(f"/{MARKER}")]
        return sorted(int(path.split("/")[0].removeprefix("step_")) for path in marked)

    def _write(self, step: int, state: dict[str, Tensor]) -> None:
        self.storage.write(f"{_name(step)}/{STATE}", weights_bytes(state, {}))

    def _count(self, written: Future[None] | None, step: int, before: Callable[[], Any] | None) -> None:
        if written is not None:
            written.result()  # it ended before in this same thread: only its error comes of it
        if before:
            before()
        self.storage.write(f"{_name(step)}/{MARKER}", json.dumps({"step": step, "digest": self.digest}).encode())
        for old in self.steps()[: -self.keep_last]:
            self.storage.delete(f"{_name(old)}/{MARKER}")
            self.storage.delete_all(_name(old))


def _name(step: int) -> str:
    return f"step_{step:08d}"
