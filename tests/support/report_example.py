"""A made-up report of every kind of value, deterministic."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from react_ray.report.class_gallery import ClassEntry, Pair
from react_ray.report.data import MEAN, ClassRow, Confusion, Cost, Flip, ReportData, Seed, StageRow
from react_ray.report.intervals import Gain

ARMS = {"base": "base", "random": "random pairs", "locked_text": "locked text", "gated_image": "gated image"}
PIXELS = {"pixels": "pixel 1-NN", "labelled": "pixel 1-NN, given labels"}
ROWS = ARMS | {"gated_image+head": "gated image + head"} | PIXELS
LIFT = {
    "base": 0.0,
    "random": -0.03,
    "locked_text": 0.05,
    "gated_image": 0.08,
    "gated_image+head": 0.12,
    "pixels": 0.2,
    "labelled": 0.3,
}
TASKS = ("food", "animals", "flags")
EVIL = "<script>alert('x')</script> \"quoted\" & heron"


def picture(seed: int, side: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def pair(number: int, caption: str, data: bytes | None = None) -> Pair:
    key = ("text", "image")[number % 2]
    data = picture(number) if data is None else data
    return Pair(number, caption, "", 0.8, key, "", data, "ok", "noto, Apache-2.0")


def entry(name: str, pairs: list[Pair]) -> ClassEntry:
    return ClassEntry("birds", name, [], len(pairs), 0.4, 0.6, 0.8, pairs)


def scores(seed: int, tasks: tuple[str, ...] = TASKS) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    random = np.random.default_rng(seed)
    by_task = {
        task: {row: float(round(0.25 + 0.05 * i + LIFT[row] + random.uniform(-0.02, 0.02), 4)) for row in ROWS}
        for i, task in enumerate(tasks)
    }
    return by_task, {row: float(np.mean([by_task[task][row] for task in tasks])) for row in ROWS}


def curve(seed: int, gated: bool, num_steps: int = 400) -> list[dict[str, float]]:
    random = np.random.default_rng(seed)
    rows = []
    for step in range(0, num_steps, 2):
        row = {
            "step": float(step),
            "loss": 2.0 + 3.0 * math.exp(-step / 90) + 0.1 * float(random.normal()),
            "lr": 2e-3 * min(1, step / 40) * 0.5 * (1 + math.cos(math.pi * step / num_steps)),
            "logit_scale": 14.3 + step / 60,
        }
        if gated:
            row["gate_attn_abs_mean"] = 0.12 * (1 - math.exp(-step / 120))
            row["gate_dense_abs_mean"] = 0.2 * (1 - math.exp(-step / 100))
        rows.append(row)
    return rows


def gains(
    by_task: dict[str, dict[str, float]], mean: dict[str, float], half: float = 0.03
) -> dict[tuple[str, str, str], Gain]:
    """Intervals of one width around the differences."""
    over = [(row, "base") for row in ROWS if row != "base"] + [
        ("gated_image", "random"),
        ("locked_text", "gated_image"),
        ("gated_image+head", "pixels"),
    ]
    return {
        (task, arm, other): Gain(value := scores[arm] - scores[other], value - half, value + half, 20, p=0.004)
        for task, scores in [*by_task.items(), (MEAN, mean)]
        for arm, other in over
    }


def report(num_seeds: int = 3, tasks: tuple[str, ...] = TASKS, num_classes: int = 4) -> ReportData:
    by_task, mean = scores(0, tasks)
    return ReportData(
        name=f"sample {EVIL}",
        seed=0,
        labels=dict(ROWS),
        tasks=by_task,
        mean=mean,
        facts=[("pool", "32,039 pairs"), ("retrieved", "4,959 pairs"), ("backbone", "ViT, 64 px, 128-d")],
        num_images={task: 60 + 10 * i for i, task in enumerate(tasks)},
        other_seeds=[Seed(seed, *scores(seed, tasks)) for seed in range(1, num_seeds)],
        controls=("random",),
        fixed=("gated_image+head",),
        references=tuple(PIXELS),
        labelled=("labelled",),
        costs={"random": Cost(61.0, 2_400_000), "gated_image": Cost(60.0, 2_400_000), "pixels": Cost(1.5, 2_300_000)},
        gains=gains(by_task, mean),
        other_sets={"validation": Gain(0.03, 0.004, 0.056, 40, num_seeds)},
        classes=[
            ClassRow(
                task,
                f"class {i} {EVIL if i == 0 else ''}",
                1,
                int(i % 3 == 0),
                int(i % 2 == 0),
                i,
                (EVIL,) if i == 0 else (),
                ("Try synonyms.",) if i == 0 else (),
            )
            for task in tasks
            for i in range(20)
        ],
        flipped={task: (9 + i, 4) for i, task in enumerate(tasks)},
        flips=[
            Flip(task, EVIL, *((EVIL, "owl") if i % 2 else ("owl", EVIL)), picture(100 + i))
            for task in tasks
            for i in range(4)
        ],
        confusions=[Confusion("food", EVIL, "owl", 3, 2), Confusion("food", "", EVIL, 5, 4)],
        gallery_hint=f"All classes: react-ray show {EVIL}",
        advice=[EVIL, "Add labelled images."],
        gallery=[
            entry(f"heron {i}" if i else EVIL, [pair(10 * i + j, EVIL if j == 0 else f"heron {j}") for j in range(8)])
            for i in range(num_classes)
        ],
        curves={arm: curve(i, arm == "gated_image") for i, arm in enumerate(ARMS) if arm != "base"},
        stages=[
            StageRow("ingest", 16, 32_039, 32_039, 17_603_817, 12.3),
            StageRow("embed", 16, 32_039, 32_038, 16_404_000, 38.1),
            StageRow("customize", 1, 4_959, 4_959, 2_400_000, 188.0),
        ],
        recipe_yaml="name: sample\nbackbone:\n  name: <tiny>\n",
        notes=["3 classes got fewer pairs than asked for.", EVIL],
    )
