from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from react_ray.gated.attach import attach_gated_blocks
from react_ray.storage import Storage, open_storage
from react_ray.training.metrics import TensorBoard, Watch, gate_values
from tests.support.tiny_clip import tiny_backbone


def scalars(storage: Storage, folder: str) -> list[tuple[str, int, float]]:
    """(name, step, value) of the event files: records of 8 bytes of length, 4 of checksum, data, 4 of checksum."""
    found = []
    for path in storage.list(folder):
        data, at = storage.read(path), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += size + 16
    return found


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "run"))
    board = TensorBoard(storage, "gated_image", 0)
    board.log(1, {"loss": 2.5, "lr": 0.25})
    board.flush()
    assert len(storage.list("tensorboard/gated_image")) == 1
    board.log(2, {"loss": 1.5})
    board.close()
    assert scalars(storage, "tensorboard/gated_image") == [("loss", 1, 2.5), ("lr", 1, 0.25), ("loss", 2, 1.5)]


def test_every_gate_is_watched(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8).model
    assert gate_values(model) == {}
    attach_gated_blocks(model, 2)
    with torch.no_grad():
        model.get_parameter("visual.transformer.resblocks.1.gated_attn_block.alpha_attn").fill_(-10)
    found = Watch(8).step(model, 0.0)
    assert found["gate/01.attn"] == pytest.approx(1) and found["gate/02.dense"] == 0
    assert found["gate_attn_abs_mean"] == pytest.approx(0.5)
    assert found["pairs_per_s"] > 0 and found["wait_share"] == 0 and found["memory_gb"] > 0
