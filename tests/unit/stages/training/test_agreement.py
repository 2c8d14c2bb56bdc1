"""What two workers agree on, although they see different things."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp

from react_ray.stages.training.agreement import least, mean_loss, of_all_workers

LOSSES = (torch.tensor(2.0), torch.tensor(3.0))


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    loss, cpu = LOSSES[rank], torch.device("cpu")
    one_is_late = mean_loss(loss, rank == 1, False)
    one_is_not_finite = mean_loss(loss * (math.nan if rank else 1))
    pair_ids = of_all_workers(np.arange(3) + 10 * rank, cpu).tolist()
    torch.save([one_is_late, one_is_not_finite, least(4 + rank, cpu), pair_ids], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_all_workers_get_the_same_answer(tmp_path: Path) -> None:
    mp.spawn(run_rank, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        late, not_finite, step, pair_ids = torch.load(tmp_path / f"{rank}.pt")
        assert late == (2.5, [True, False])
        assert math.isnan(not_finite[0])
        assert step == 4
        assert pair_ids == [0, 1, 2, 10, 11, 12]
