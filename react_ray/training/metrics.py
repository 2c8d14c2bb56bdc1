"""Measures a training, as {name: number} per step: gates, speed, waiting, memory; and writes TensorBoard's event
files."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil
import torch
from torch import nn

from react_ray.errors import BackboneError
from react_ray.gated.attach import gates
from react_ray.storage import Storage


class Watch:
    """Measures from one call of `step` to the next."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._last, self._waited_s = time.monotonic(), 0.0
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()  # which the training before has left

    def step(self, model: nn.Module, waited_s: float) -> dict[str, float]:
        """waited_s: seconds that the loop has waited for batches since its beginning (`Batches.waited_s`)."""
        now = time.monotonic()
        seconds = max(now - self._last, 1e-9)
        out = {
            "pairs_per_s": self.batch_size / seconds,
            "wait_share": min(1.0, (waited_s - self._waited_s) / seconds),
            "memory_gb": _memory_gb(),
        }
        self._last, self._waited_s = now, waited_s
        return out | gate_values(model)


def gate_values(model: nn.Module) -> dict[str, float]:
    """|tanh(gate)| of every block, `gate/06.attn`, and their means; {} without gated blocks."""
    try:
        values = {name: abs(value) for name, value in gates(model).items()}
    except BackboneError:
        return {}  # an image tower without blocks, which trains as a whole
    out = {f"gate/{name}": value for name, value in values.items()}
    for kind in ("attn", "dense"):
        chosen = [value for name, value in values.items() if name.endswith(f".{kind}")]
        if chosen:
            out[f"gate_{kind}_abs_mean"] = sum(chosen) / len(chosen)
    return out


class TensorBoard:
    """`tensorboard/NAME/events...` on any storage; the file grows in a local folder and is copied to storage whole."""

    def __init__(self, storage: Storage, name: str, first_step: int) -> None:
        from tensorboardX import SummaryWriter

        self._storage, self._place = storage, f"tensorboard/{name}"
        self._folder = tempfile.TemporaryDirectory()
        self._writer = SummaryWriter(self._folder.name, purge_step=first_step or None)

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Copies what TensorBoard's thread has written so far; the last values may come with the next flush."""
        self._writer.flush()
        self._put()

    def close(self) -> None:
        self._writer.close()
        self._put()
        self._folder.cleanup()

    def _put(self) -> None:
        for path in Path(self._folder.name).iterdir():
            self._storage.write(f"{self._place}/{path.name}", path.read_bytes())


def _memory_gb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return psutil.Process().memory_info().rss / 2**30
