"""Scores while a model trains: what the actor scores, and the training's side of it with an actor that answers when it
is told to."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from react_ray.clip.config import RANDOM, BackboneConfig
from react_ray.evals.labelled import slices_of
from react_ray.evals.zeroshot import MEAN
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.load import load_backbone
from react_ray.stages.training.online_eval import WAITING, Scores, Watched, Watcher
from tests.support.birds import BIRDS, IMAGES, WANTED
from tests.support.small_run import OTHER_CLIP, TINY_CLIP


@ray.remote(num_cpus=0, max_concurrency=WAITING + 2)
class Told:
    def __init__(self) -> None:
        self.go = threading.Event()

    def score(self, watched: Watched, step: int, weights: bytes) -> dict[str, float]:
        self.go.wait()
        if weights == b"bad":
            raise ValueError(f"no picture of {watched.dataset}\nmore")
        return {MEAN: step / 100}

    def tell(self) -> None:
        self.go.set()


@pytest.fixture
def scores(tmp_path: Path, local_ray: None) -> Scores:
    watched = Watched(BackboneConfig(name="tiny"), 0, False, (), "held", (), str(tmp_path))
    return Scores(Told.remote(), watched, 0)


def test_a_training_that_outruns_its_scores_goes_without_some_and_says_so_once(scores: Scores) -> None:
    for step in (1, 2):
        assert scores.wants(step, wait=False)
        scores.ask(step, b"good")
    assert not scores.wants(3, wait=False) and not scores.wants(4, wait=False), (
        "it does not wait for an actor that is behind"
    )
    ray.get(scores.watcher.tell.remote())
    assert scores.wants(5, wait=True)
    scores.ask(5, b"good")
    assert scores.answers(wait=True) == {step: {MEAN: step / 100} for step in (1, 2, 5)}
    [said] = scores.warnings()
    assert said.startswith("2 scores on held were left out (of step 3 first)") and said.endswith(
        "set customize.watch_gpus"
    )


def test_a_score_that_failed_is_told_with_its_error(scores: Scores) -> None:
    ray.get(scores.watcher.tell.remote())
    scores.ask(1, b"bad")
    scores.ask(2, b"good")
    assert scores.answers(wait=True) == {2: {MEAN: 0.02}}
    [said] = scores.warnings()
    assert "(step 1: ValueError: no picture of held), the model was trained without it; mend that" in said


def test_a_training_of_another_backbone_is_scored_by_its_own_text_tower(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": IMAGES, "label": WANTED, "task": ["birds"] * 4}), tmp_path / "held.parquet")
    slices = tuple(slices_of("held", f"{tmp_path}/held.parquet", [BIRDS]))
    watcher = Watcher(4, 1)
    for name in (TINY_CLIP, OTHER_CLIP, TINY_CLIP):  # of 16 and 24 dimensions
        config = BackboneConfig(name=name, pretrained=RANDOM)
        model = load_backbone(config, seed=0).model
        watched = Watched(config, 0, False, (BIRDS,), "held", slices, f"{tmp_path}/{Path(name).stem}")
        scores = watcher.score(watched, 1, gated_bytes(model, {}))
        assert scores == Watcher(4, 1).score(watched, 1, gated_bytes(model, {}))
        assert set(scores) == {"birds", MEAN}
