"""A run whose models are finished: a tiny base, an arm with open gates, and an arm that only has a classifier."""

from __future__ import annotations

import json
from pathlib import Path

from react_ray.clip.config import BackboneConfig
from react_ray.draft import create
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.load import load_backbone
from react_ray.kinds import MODEL, ModelFacts
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.layout import Layout
from tests.support import tiny_clip

RECIPE = """
name: trained
database: {0}/database
out: {0}/run
tasks: {{name: birds, class_names: [heron, owl, accordion]}}
backbone: {{name: {1}, pretrained: random}}
ingest: {{source: "sample://pool.parquet"}}
evaluate: {2}
arms:
  gated_image: {{customize.last_k_layers: 2}}
  linear: {{customize.method: linear}}
"""


def trained_recipe(folder: Path, evaluate: dict[str, object]) -> Recipe:
    """evaluate: the section of the recipe. Models that are there already stay."""
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(folder, str(Path(tiny_clip.__file__).with_suffix(".json")), json.dumps(evaluate)))
    recipe = load_recipe(str(path))
    _finish(recipe, "linear", {"head.safetensors": b""})
    config = BackboneConfig.model_validate(recipe.backbone.model_dump() | {"last_k_layers": 2})
    backbone = load_backbone(config, seed=recipe.seed)
    tiny_clip.open_gates(backbone.model)
    info = {"backbone": backbone.describe(), "last_k_layers": 2, "seed": recipe.seed, "method": "gated-image"}
    _finish(recipe, "gated_image", {"gated.safetensors": gated_bytes(backbone.model, info)})
    return recipe


def _finish(recipe: Recipe, arm: str, files: dict[str, bytes]) -> None:
    method = recipe.arm(arm).customize.method
    draft = create(Layout(recipe, arm).of_arm("model"), MODEL, {}, {}, 1)
    if not draft.sealed:
        draft.commit_files(0, files, 1.0, 1)
        draft.seal(ModelFacts({}, method))
