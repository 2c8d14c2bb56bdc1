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
    QUERIES,
    RETRIEVED,
    EmbeddingsFacts,
    IndexFacts,
    Kind,
    ModelFacts,
    PredictionsFacts,
    QueriesFacts,
    RetrievedFacts,
)
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.layout import Layout

DIM = 8
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
    labels = [CLASSES[i % 3] for i in range(num_images)]
    pq.write_table(pa.table({"image": [png(i) for i in range(num_images)], "label": labels}), path)
    return str(path)


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 48), (number % 256, 80, 160)).save(buffer, "PNG")
    return buffer.getvalue()


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
    """Four pairs for each of two classes, and for the third one, which is flagged, two; as many random pairs."""
    for root, is_random in ((recipe.out, False), (f"{recipe.out}/arms/random", True)):
        classes = [0] * 4 + [1] * 4 + [2] * 2
        draft = create(f"{root}/retrieved", RETRIEVED, {"selection": "random" if is_random else "hits"}, {}, 1)
        draft.commit(0, _pairs(classes, is_random), 1.0)
        draft.seal(RetrievedFacts({}, DIM, ["10 pairs for 3 classes"]))
        images = create(f"{root}/images", IMAGES, {}, {}, 1)
        images.commit(0, _images(len(classes)), 1.0)
        images.seal()
    queries = create(f"{recipe.out}/queries", QUERIES, {}, {}, 1)
    asked = {"query_id": range(3), "class_id": range(3), "task": ["birds"] * 3, "class_name": CLASSES}
    more = {"prompt": CLASSES, "modality": ["text"] * 3, "embedding": [bytes(2 * DIM)] * 3}
    queries.commit(0, pa.table(asked | more).cast(schema.queries(DIM)), 1.0)
    queries.seal(QueriesFacts({}, DIM, 3))
    match = {"flags": ["unnamed"], "advice": ["Give accordion synonyms."]}
    rows = [{"class_id": i, "task": "birds", "class_name": name, "pairs": 4} for i, name in enumerate(CLASSES)]
    rows[2] |= {"match": match, "pairs": 2}
    Path(recipe.out, "selection.json").write_text(json.dumps({"classes": rows, "poor_below": 1}))


def _pairs(classes: list[int], is_random: bool) -> pa.Table:
    matches = [
        [] if is_random else [{"class_id": c, "prompt": CLASSES[c], "score": 0.5, "key": "text"}] for c in classes
    ]
    columns = {
        "pair_id": range(len(classes)),
        "url": [None] * len(classes),
        "caption": [f"a drawing of a {CLASSES[c]}" for c in classes],
        "class_id": [None] * len(classes) if is_random else classes,
        "score": [None] * len(classes) if is_random else [0.5] * len(classes),
        "matches": matches,
        "text_embedding": [bytes(2 * DIM)] * len(classes),
    }
    kept = schema.retrieved(DIM)
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in kept}, schema=kept)


def _images(num: int) -> pa.Table:
    rows = [
        {"pair_id": i, "caption": "", "image": png(i), "width": 48, "height": 48, "status": schema.OK}
        for i in range(num)
    ]
    return pa.Table.from_pylist(rows, schema=schema.IMAGES)


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
    about = {"model": name, "seed": recipe.seed}
    scores = [dict(zip(names, row, strict=True)) | about for row in summarise(table)]
    draft = create(Layout(recipe, name if name in recipe.arms else "").scores(name), PREDICTIONS, {}, {}, 1)
    draft.commit(0, table, 1.0)
    draft.seal(PredictionsFacts(scores))
