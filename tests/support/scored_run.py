"""A run made of artifacts that a test writes itself, stage by stage, without Ray and without a model."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from react_ray import schema
from react_ray.draft import create
from react_ray.evals.zeroshot import summarise
from react_ray.kinds import (
    EMBEDDINGS,
    IMAGES,
    INDEX,
    MODEL,
    PREDICTIONS,
    RETRIEVED,
    EmbeddingsFacts,
    IndexFacts,
    Kind,
    ModelFacts,
    PredictionsFacts,
    RetrievedFacts,
)
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.layout import Layout

CLASSES = ("heron", "owl", "accordion")
RECIPE = """
name: scored
database: {0}/database
out: {0}/{1}
tasks: {{name: birds, class_names: [heron, owl, accordion]}}
backbone: {{name: ViT-B-32}}
ingest: {{source: "sample://pool.parquet"}}
evaluate: {{datasets: {datasets}}}
arms:
  random: {{retrieve.selection: random}}
  gated_image: {{}}
  locked_text: {{customize.method: locked-text}}
"""


def recipe_of(folder: Path, datasets: dict[str, str] | None = None, run: str = "run", *overrides: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(folder, run, datasets=json.dumps(datasets or {})))
    return load_recipe(str(path), list(overrides))


def labelled_set(path: Path, num_images: int) -> str:
    """Writes a labelled set of images in one colour each; image i belongs to class i % 3."""
    images = [io.BytesIO() for _ in range(num_images)]
    for i, buffer in enumerate(images):
        Image.new("RGB", (48, 48), (i % 256, 80, 160)).save(buffer, "PNG")
    labels = [CLASSES[i % 3] for i in range(num_images)]
    pq.write_table(pa.table({"image": [b.getvalue() for b in images], "label": labels}), path)
    return str(path)


def finish(uri: str, kind: Kind, facts: object = None, rows: int = 12) -> None:
    """Writes a finished artifact of one part whose rows nobody reads."""
    draft = create(uri, kind, {}, {}, 1)
    draft.commit(0, pa.table({"pair_id": range(rows)}), 1.0)
    draft.seal(facts)


def finish_database(recipe: Recipe) -> None:
    layout = Layout(recipe)
    finish(layout.database("images"), IMAGES, rows=1200)
    backbone = {"name": "ViT-B-32", "weights_sha256": "0123456789abcdef"}
    finish(layout.database("embeddings"), EMBEDDINGS, EmbeddingsFacts(backbone, 8), rows=1200)
    finish(layout.database("index"), INDEX, IndexFacts("flat", ["image"], 1), rows=1200)


def finish_retrieval(recipe: Recipe) -> None:
    """Two classes found their pairs; the third one is flagged."""
    for root in (recipe.out, f"{recipe.out}/arms/random"):
        finish(f"{root}/retrieved", RETRIEVED, RetrievedFacts({}, 8, ["12 pairs for 3 classes"]))
    match = {"flags": ["no caption names it"], "advice": ["Give accordion synonyms."]}
    rows = [{"class_id": i, "task": "birds", "class_name": name, "pairs": 6 - i} for i, name in enumerate(CLASSES)]
    rows[2]["match"] = match
    Path(recipe.out, "selection.json").write_text(json.dumps({"classes": rows}))


def finish_models(recipe: Recipe) -> None:
    for arm in recipe.arm_names():
        finish(Layout(recipe, arm).of_arm("model"), MODEL, ModelFacts({}, "gated-image"))
        path = Path(recipe.out, "metrics", f"train-{arm}.jsonl")
        path.parent.mkdir(exist_ok=True)
        losses = [4 - 0.02 * step for step in range(100)]
        path.write_text(
            "".join(json.dumps({"step": i, "loss": loss, "lr": 1e-3}) + "\n" for i, loss in enumerate(losses))
        )


def score(recipe: Recipe, name: str, correct: dict[str, np.ndarray]) -> None:
    """Writes the scores of a base or an arm. correct: labelled set -> bool [N], whether the model is right."""
    tables = []
    for dataset, right_N in correct.items():
        label = np.array([CLASSES[i % 3] for i in range(len(right_N))], object)
        wrong = np.array([CLASSES[(i + 1) % 3] for i in range(len(right_N))], object)
        tables.append(
            pa.table(
                {
                    "row": pa.array(range(len(right_N)), pa.int32()),
                    "dataset": [dataset] * len(right_N),
                    "task": ["birds"] * len(right_N),
                    "label": label,
                    "predicted": np.where(right_N, label, wrong),
                    "score": pa.array(np.full(len(right_N), 0.5), pa.float32()),
                    "rank": pa.array(np.where(right_N, 0, 1), pa.int32()),
                },
                schema=schema.PREDICTIONS,
            )
        )
    table = pa.concat_tables(tables)
    names = ("dataset", "task", "metric", "value", "num_images")
    scores = [dict(zip(names, row, strict=True)) for row in summarise(table)]
    draft = create(Layout(recipe, name if name in recipe.arms else "").scores(name), PREDICTIONS, {}, {}, 1)
    draft.commit(0, table, 1.0)
    draft.seal(PredictionsFacts(scores))
