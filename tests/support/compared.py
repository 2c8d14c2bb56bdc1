"""What `compare` compares: tiny models in every form in which a command names them, and folders of labelled noise."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from react_ray.draft import create
from react_ray.gated.attach import attach_gated_blocks
from react_ray.gated.checkpoint import gated_bytes
from react_ray.kinds import MODEL, ModelFacts
from tests.support.tiny_clip import open_gates, save_backbone, tiny_backbone, tiny_config

RECIPE = """
tasks: {name: birds, class_names: [heron, barn owl, magpie], templates: ["a sketch of a {}."]}
evaluate: {wise_ft: 0.5}
"""


def noise(seed: int) -> bytes:
    """A PNG, so that models of random weights disagree about many images."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((48, 40), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def class_folders(root: Path, names: list[str], each: int = 8, first: int = 0) -> str:
    """first: the number of the first image, so that two sets share none."""
    for place, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(first, first + each):
            (root / name / f"{number}.png").write_bytes(noise(1000 * place + number))
    return str(root)


def random_model(folder: Path) -> str:
    """`NAME,PRETRAINED` of a model with random weights."""
    return f"{tiny_config(folder)},random"


def model_of_file(folder: Path, seed: int) -> str:
    """`NAME,FILE` of a model with other weights."""
    path = folder / f"seed{seed}.safetensors"
    save_backbone(tiny_backbone(folder, seed=seed).model, str(path))
    return f"{tiny_config(folder)},{path}"


def finished_run(folder: Path, *arms: str) -> str:
    """The folder of a run with models of these arms, on the model of random weights; gates are open."""
    backbone = tiny_backbone(folder)
    info = {"backbone_config": backbone.config.model_dump(), "seed": 0}
    attach_gated_blocks(backbone.model, 2)
    open_gates(backbone.model)
    for arm in arms or ("",):
        draft = create(str(folder / "run" / (f"arms/{arm}/model" if arm else "model")), MODEL, {}, {}, 1)
        files = {"gated.safetensors": gated_bytes(backbone.model, info), "recipe.yaml": RECIPE.encode()}
        draft.commit_files(0, files, 0.0, 1)
        draft.seal(ModelFacts(backbone.describe(), "gated-image"))
    return str(folder / "run")
