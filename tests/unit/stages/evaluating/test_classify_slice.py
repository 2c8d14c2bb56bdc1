"""Models that embed alike share the vectors of a slice, and are scored as if each had made its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from react_ray.clip.config import BackboneConfig
from react_ray.clip.prompts import TargetTask, load_tasks
from react_ray.draft import create
from react_ray.evals.labelled import Slice, read_slice, slices_of
from react_ray.gated.config import CustomizeConfig
from react_ray.kinds import PREDICTIONS
from react_ray.recipe import Recipe
from react_ray.stages.evaluate import _jobs
from react_ray.stages.evaluating.classify_slice import Candidate, ClassifySlice
from react_ray.stages.evaluating.scored_model import ScoredModel
from react_ray.training.head_file import head_bytes
from tests.support import tiny_clip
from tests.support.scored_run import CLASSES, labelled_set, recipe_of


def head_file(path: Path, seed: int, dim: int = 16, grid: int = 0) -> str:
    head_CD = np.random.default_rng(seed).normal(size=(len(CLASSES), dim)).astype(np.float32)
    named = [("birds", name) for name in CLASSES]
    path.write_bytes(head_bytes({"head": head_CD, "start": head_CD.copy()}, named, CustomizeConfig(), {"grid": grid}))
    return str(path)


def candidates(folder: Path, recipe: Recipe, slices: list[Slice], models: dict[str, ScoredModel]) -> list[Candidate]:
    return [
        Candidate(name, model, create(f"{folder}/{name}", PREDICTIONS, {}, {}, len(slices)), dict(enumerate(slices)))
        for name, model in models.items()
    ]


def scored(jobs: list[list[tuple[Candidate, int]]], recipe: Recipe, tasks: list[TargetTask]) -> dict[str, pa.Table]:
    work = ClassifySlice(jobs, recipe, tasks, 1)
    work.setup()
    for number, [(candidate, part), *_] in enumerate(jobs):
        work(number, read_slice(candidate.slices[part], tasks))
    found = {candidate.name: candidate for job in jobs for candidate, _ in job}
    return {name: pa.concat_tables(c.scores.read(part) for part in c.slices) for name, c in found.items()}


def test_models_that_embed_alike_share_the_vectors_of_a_slice(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    tasks = load_tasks(recipe.tasks)
    slices = slices_of("test", labelled_set(tmp_path / "test.parquet", 9), tasks)
    base = BackboneConfig(name=str(Path(tiny_clip.__file__).with_suffix(".json")), pretrained="random")
    models = {
        "base": ScoredModel(base),
        "first": ScoredModel(base, head_file(tmp_path / "a.safetensors", 1)),
        "cells": ScoredModel(base, head_file(tmp_path / "c.safetensors", 3, 16 + 4 * 32, 2), grid=2),
        "second": ScoredModel(base, head_file(tmp_path / "b.safetensors", 2)),
    }
    rows = candidates(tmp_path / "together", recipe, slices, models)
    jobs = _jobs([(row, part) for row in rows for part in row.scores.pending()])
    assert [[c.name for c, _ in job] for job in jobs] == [["base", "first", "second"], ["cells"]]
    together = scored(jobs, recipe, tasks)
    alone = scored([[(row, 0)] for row in candidates(tmp_path / "alone", recipe, slices, models)], recipe, tasks)
    assert together == alone and together["first"] != together["second"]
