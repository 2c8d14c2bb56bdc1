"""Two workers under every way that DeepSpeed can shard a model, beside one worker and no sharding."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from react_ray.training.optim import MAX_LOGIT_SCALE
from tests.support.sharded_rank import run_rank

CASES = [(0, False), (1, False), (2, False), (3, False), (1, True), (2, True), (3, True)]


def trained(folder: Path, world_size: int, cases: list[tuple[int, bool]]) -> dict[tuple[int, bool], dict[str, Any]]:
    folder.mkdir()
    mp.spawn(run_rank, (world_size, cases, f"file://{folder}/rendezvous", str(folder)), nprocs=world_size)
    return {case: torch.load(folder / f"{case[0]}-{case[1]}.pt") for case in cases}


def test_every_sharding_trains_the_same_and_goes_on_where_it_was(tmp_path: Path) -> None:
    alone = trained(tmp_path / "one", 1, CASES[:1])[CASES[0]]
    assert alone["end"].keys() == {
        f"{kind}/{name[7:]}"
        for name in alone["end"]
        if name.startswith("weight/")
        for kind in ("weight", "exp_avg", "exp_avg_sq")
    }
    for case, found in trained(tmp_path / "two", 2, CASES).items():
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-6), case
        assert found["norms"] == pytest.approx(alone["norms"], rel=1e-4) and min(found["norms"]) > 0, case
        assert not math.isfinite(found["endless_norm"]) and found["kept"], case
        assert found["end"].keys() == alone["end"].keys()
        for name, value in found["end"].items():
            torch.testing.assert_close(
                value,
                alone["end"][name],
                atol=1e-6,
                rtol=1e-4,
                msg=lambda text, name=name, case=case: f"{case} {name}: {text}",
            )
        assert found["unchanged"], case
        assert found["resumed_losses"] == found["losses"][2:], case
        assert all(value.equal(found["middle"][name]) for name, value in found["restored"].items()), case
        assert found["clamped"] == pytest.approx(MAX_LOGIT_SCALE), case
