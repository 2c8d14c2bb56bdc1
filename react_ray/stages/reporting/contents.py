"""Gathers the contents of the report's page from the artifacts of a run."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from react_ray.artifact import open_artifact
from react_ray.clip.identity import short_name, tag_of
from react_ray.errors import ArtifactError
from react_ray.evals import pixel_knn
from react_ray.evals.zeroshot import summarise as summarise_predictions
from react_ray.kinds import EMBEDDINGS, IMAGES, INDEX, MODEL, PAIRS, PREDICTIONS, RETRIEVED, Kind
from react_ray.progress import Metrics
from react_ray.recipe import BASE, Recipe
from react_ray.report.data import ClassChange, ReportData, StageRow
from react_ray.runtime.layout import Layout
from react_ray.stages.reporting.pictures import retrieved_pictures
from react_ray.stages.reporting.summary import read_summary, scores_of
from react_ray.storage import join, open_storage

LABELS = {BASE: "base CLIP", "random": "random pairs", "locked_text": "locked-text", "gated_image": "gated-image"}


def gather(recipe: Recipe, summary: dict[str, Any]) -> ReportData:
    """Returns everything that the page shows."""
    storage = open_storage(recipe.out)
    bases = {arm or "customized": recipe.base_of(arm) for arm in recipe.arm_names()}
    compared = _compared(recipe)
    seconds = summary["seconds"]
    return ReportData(
        name=recipe.name,
        seed=recipe.seed,
        arms=_labels(recipe, bases),
        bases=bases,
        tasks=summary["tasks"],
        mean=summary["mean"],
        facts=_facts(recipe, summary),
        num_images={
            r["task"]: r["num_images"]
            for r in scores_of(recipe, BASE).facts.scores
            if r["dataset"] == recipe.evaluate.headline and r["metric"] == "top1"
        },
        other_seeds=[read_summary(uri) for uri in recipe.evaluate.other_runs],
        reference_lines=_references(recipe),
        compared=compared or "customized",
        per_class=_changes(recipe, compared),
        gallery=retrieved_pictures(recipe, compared),
        curves={arm or "customized": Metrics(storage, f"train-{arm or 'model'}").rows() for arm in recipe.arm_names()},
        stages=_stages(recipe, seconds),
        recipe_yaml=recipe.yaml(),
        notes=_retrieved(recipe),
    )


def _labels(recipe: Recipe, bases: dict[str, str]) -> dict[str, str]:
    """Returns the label of each base, followed by those of its arms, in the order of the table."""
    labels = {}
    for base, backbone in recipe.bases().items():
        named = f"base {short_name(backbone)} {tag_of(backbone)}".strip()
        labels[base] = LABELS[BASE] if len(recipe.bases()) == 1 else named
        labels |= {arm: LABELS.get(arm, arm) for arm, of in bases.items() if of == base}
    return labels


def _compared(recipe: Recipe) -> str:
    """Returns the arm of the headline: the last one that trains on retrieved pairs instead of a control."""
    retrieving = [arm for arm in recipe.arm_names() if recipe.arm(arm).retrieve.selection == "hits"]
    return (retrieving or recipe.arm_names())[-1]


def _facts(recipe: Recipe, summary: dict[str, Any]) -> list[tuple[str, str]]:
    layout = Layout(recipe)
    pairs = layout.open_database(PAIRS)
    backbone = layout.open_database(EMBEDDINGS).facts.backbone
    facts = [
        ("pool", f"{pairs.rows:,} pairs"),
        ("backbone", f"{backbone['name']}, weights {backbone['weights_sha256'][:12]}"),
        ("evaluation set", recipe.evaluate.headline),
    ]
    if recipe.evaluate.wise_ft != 1:
        facts.append(("WiSE-FT", f"customised models are scored at weight {recipe.evaluate.wise_ft:g}"))
    others = {short_name(backbone): "" for backbone in recipe.bases().values() if backbone != recipe.backbone}
    facts += [("customised", ", ".join(others))] if others else []
    for arm in recipe.arm_names():
        root = Layout(recipe, arm).retrieved_root()
        rows = open_artifact(join(root, "retrieved"), RETRIEVED).rows
        facts.append((f"pairs for {LABELS.get(arm, arm or 'training')}", f"{rows:,}"))
    if summary["seconds"]:
        facts.append(("wall clock", f"{sum(summary['seconds'].values()):,.0f} s"))
    if summary["peak_rss_gb"]:
        facts.append(("peak memory", f"{summary['peak_rss_gb']:.1f} GB"))
    return facts


def _references(recipe: Recipe) -> dict[str, dict[str, float]]:
    config = recipe.evaluate
    if not config.pixel_knn:
        return {}
    rows = summarise_predictions(pixel_knn.run(config.pixel_knn, config.headline))
    return {
        "1-NN on 16x16 pixels, with labels": {task: value for _, task, metric, value, _ in rows if metric == "top1"}
    }


def _predictions(recipe: Recipe, arm: str) -> pa.Table:
    table = pa.concat_tables(scores_of(recipe, arm).tables())
    return table.filter(pc.equal(table["dataset"], recipe.evaluate.headline))


def _changes(recipe: Recipe, compared: str) -> list[ClassChange]:
    """Counts, for each class, the images that the base and the compared arm classify correctly."""
    counts: dict[tuple[str, str], list[int]] = {}
    for place, arm in enumerate((recipe.base_of(compared), compared)):
        table = _predictions(recipe, arm)
        for task, label, rank in zip(*(table[c].to_pylist() for c in ("task", "label", "rank")), strict=True):
            row = counts.setdefault((task, label), [0, 0, 0])
            row[place] += rank == 0
            row[2] += place == 0
    return [ClassChange(task, label, *row) for (task, label), row in sorted(counts.items())]


def _stages(recipe: Recipe, seconds: dict[str, float]) -> list[StageRow]:
    layout = Layout(recipe)
    rows = []

    def add(stage: str, uri: str, kind: Kind[Any], wall: str) -> None:
        try:
            manifest = open_artifact(uri, kind).manifest
        except ArtifactError:
            return
        spent = seconds.get(wall, manifest.seconds)
        rows.append(StageRow(stage, manifest.parts, manifest.rows, manifest.ok, manifest.bytes, spent))

    if "download" in seconds and recipe.download.of == "pairs":
        add("ingest", layout.database("pairs"), PAIRS, "ingest")
        add("download", layout.database("images"), IMAGES, "download")
    else:
        add("ingest", layout.database("images"), IMAGES, "ingest")
    add("embed", layout.database("embeddings"), EMBEDDINGS, "embed")
    add("index", layout.database("index"), INDEX, "index")
    add("retrieve", layout.of_run("retrieved"), RETRIEVED, "retrieve")
    for arm in recipe.arm_names():
        # The time is the arm's own, since one stage trains all arms.
        add(f"customize {arm}".strip(), Layout(recipe, arm).of_arm("model"), MODEL, "")
    add("evaluate", layout.of_run("scores/base"), PREDICTIONS, "evaluate")
    return rows


def _retrieved(recipe: Recipe) -> list[str]:
    """Returns the lines that `retrieve` printed for each retrieval; selection.json has the details."""
    roots = {Layout(recipe, arm).retrieved_root(): arm for arm in reversed(recipe.arm_names())}
    out = []
    for root, arm in reversed(roots.items()):
        facts = open_artifact(join(root, "retrieved"), RETRIEVED, "retrieve").facts
        label = "random pairs" if recipe.arm(arm).retrieve.selection == "random" else "retrieved"
        out += [f"{label}: {line}" for line in facts.summary]
    return out
