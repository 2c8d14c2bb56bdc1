"""report: everything a run left on storage -> `summary.json`, `report.html` and the table for the terminal.

Reads only; every figure of it is one that a stage wrote. Next: report/page.py.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.identity import short_name, tag_of
from react_ray.errors import ArtifactError
from react_ray.evals import pixel_knn
from react_ray.evals.zeroshot import summarise as summarise_predictions
from react_ray.kinds import EMBEDDINGS, IMAGES, INDEX, MODEL, PAIRS, PREDICTIONS, QUERIES, RETRIEVED, Kind
from react_ray.progress import Metrics
from react_ray.recipe import BASE, Recipe
from react_ray.report.data import ClassChange, Picture, ReportData, Seed, StageRow
from react_ray.report.page import render
from react_ray.report.table import render_table
from react_ray.runtime.layout import Layout
from react_ray.stages.retrieval.embed_queries import queries_uri
from react_ray.storage import join, open_storage

LABELS = {BASE: "base CLIP", "random": "random pairs", "locked_text": "locked-text", "gated_image": "gated-image"}
CLASSES_SHOWN, PICTURES_SHOWN = 12, 8


def run(recipe: Recipe) -> str:
    """Writes summary.json and report.html below `out`; returns the table and where the report is."""
    storage = open_storage(recipe.out)
    summary = summarise(recipe)
    storage.write("summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    data = gather(recipe, summary)
    storage.write("report.html", render(data).encode())
    return f"{render_table(data)}\n\nreport: {join(storage.uri, 'report.html')}"


def summarise(recipe: Recipe) -> dict[str, Any]:
    """Top-1 per task and arm on the headline dataset, their means, and what the run cost."""
    tasks: dict[str, dict[str, float]] = {}
    mean: dict[str, float] = {}
    for arm in [*recipe.bases(), *recipe.arm_names()]:
        for row in _scores(recipe, arm).facts.scores:
            if row["dataset"] != recipe.evaluate.headline or row["metric"] != "top1":
                continue
            if row["task"] == "mean":
                mean[arm or "customized"] = row["value"]
            else:
                tasks.setdefault(row["task"], {})[arm or "customized"] = row["value"]
    storage = open_storage(recipe.out)
    costs = json.loads(storage.read("costs.json")) if storage.exists("costs.json") else {}
    return {
        "tasks": tasks,
        "mean": mean,
        "seed": recipe.seed,
        "seconds": costs.get("seconds", {}),
        "peak_rss_gb": costs.get("peak_rss_gb", {}).get("all"),
    }


def gather(recipe: Recipe, summary: dict[str, Any]) -> ReportData:
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
            for r in _scores(recipe, BASE).facts.scores
            if r["dataset"] == recipe.evaluate.headline and r["metric"] == "top1"
        },
        other_seeds=[_other_seed(uri) for uri in recipe.evaluate.other_runs],
        reference_lines=_references(recipe),
        compared=compared or "customized",
        per_class=_changes(recipe, compared),
        gallery=_gallery(recipe, compared),
        curves={arm or "customized": Metrics(storage, f"train-{arm or 'model'}").rows() for arm in recipe.arm_names()},
        stages=_stages(recipe, seconds),
        recipe_yaml=recipe.yaml(),
        notes=_retrieved(recipe),
    )


def _labels(recipe: Recipe, bases: dict[str, str]) -> dict[str, str]:
    """In the order of the table: each base, and what came of it."""
    labels = {}
    for base, backbone in recipe.bases().items():
        named = f"base {short_name(backbone)} {tag_of(backbone)}".strip()
        labels[base] = LABELS[BASE] if len(recipe.bases()) == 1 else named
        labels |= {arm: LABELS.get(arm, arm) for arm, of in bases.items() if of == base}
    return labels


def _retrieved(recipe: Recipe) -> list[str]:
    """What each retrieval of the run gave, in the lines that `retrieve` printed; all of it is in selection.json."""
    roots = {Layout(recipe, arm).retrieved_root(): arm for arm in reversed(recipe.arm_names())}
    out = []
    for root, arm in reversed(roots.items()):
        facts = open_artifact(join(root, "retrieved"), RETRIEVED, "retrieve").facts
        label = "random pairs" if recipe.arm(arm).retrieve.selection == "random" else "retrieved"
        out += [f"{label}: {line}" for line in facts.summary]
    return out


def _compared(recipe: Recipe) -> str:
    """The arm of the headline: the last one that trains on what was retrieved, not on a control."""
    retrieving = [arm for arm in recipe.arm_names() if recipe.arm(arm).retrieve.selection == "hits"]
    return (retrieving or recipe.arm_names())[-1]


def _references(recipe: Recipe) -> dict[str, dict[str, float]]:
    config = recipe.evaluate
    if not config.pixel_knn:
        return {}
    rows = summarise_predictions(pixel_knn.run(config.pixel_knn, config.headline))
    return {
        "1-NN on 16x16 pixels, with labels": {task: value for _, task, metric, value, _ in rows if metric == "top1"}
    }


def _scores(recipe: Recipe, arm: str) -> Artifact:
    layout = Layout(recipe, arm if arm in recipe.arm_names() else "")
    return open_artifact(layout.scores(arm), PREDICTIONS)


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
        facts.append(
            ("customised models scored at", f"{recipe.evaluate.wise_ft:g} of the way from the backbone (WiSE-FT)")
        )
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


def _predictions(recipe: Recipe, arm: str) -> pa.Table:
    table = pa.concat_tables(_scores(recipe, arm).tables())
    return table.filter(pc.equal(table["dataset"], recipe.evaluate.headline))


def _changes(recipe: Recipe, compared: str) -> list[ClassChange]:
    """Per class: images that the base recognises, and that the compared arm does."""
    counts: dict[tuple[str, str], list[int]] = {}
    for place, arm in enumerate((recipe.base_of(compared), compared)):
        table = _predictions(recipe, arm)
        for task, label, rank in zip(*(table[c].to_pylist() for c in ("task", "label", "rank")), strict=True):
            row = counts.setdefault((task, label), [0, 0, 0])
            row[place] += rank == 0
            row[2] += place == 0
    return [ClassChange(task, label, *row) for (task, label), row in sorted(counts.items())]


def _gallery(recipe: Recipe, arm: str) -> list[tuple[str, list[Picture]]]:
    """For a few classes, evenly spread over all, their best pairs."""
    layout = Layout(recipe, arm)
    root = layout.retrieved_root()
    retrieved = open_artifact(join(root, "retrieved"), RETRIEVED, "retrieve")
    images = open_artifact(join(root, "images"), IMAGES, "retrieve")
    queries = pa.concat_tables(
        open_artifact(queries_uri(recipe, arm), QUERIES).tables(["class_id", "task", "class_name"])
    )
    names = {
        c: f"{n} ({t})"
        for c, t, n in zip(*(queries[x].to_pylist() for x in ("class_id", "task", "class_name")), strict=True)
    }
    found = _best_rows(retrieved, sorted(names))
    chosen = list(found)[:: max(1, len(found) // CLASSES_SHOWN)][:CLASSES_SHOWN]
    pictures: dict[int, dict[int, Picture]] = {one: {} for one in chosen}
    places = [(part, row, one, rank) for one in chosen for rank, (part, row) in enumerate(found[one])]
    for part in sorted({part for part, *_ in places}):
        here = [place for place in places if place[0] == part]
        rows = pa.array([row for _, row, *_ in here])
        pairs, encoded = (
            retrieved.read(part).take(rows).to_pylist(),
            images.read(part, ["image"])["image"].take(rows).to_pylist(),
        )
        for (_, _, one, rank), pair, data in zip(here, pairs, encoded, strict=True):
            if data is not None:
                credit = ", ".join(str(pair[column]) for column in ("source", "license") if column in pair)
                key = (pair["matches"] or [{}])[0].get("key", "")
                pictures[one][rank] = Picture(data, pair["caption"], pair["score"] or 0.0, key, credit)
    return [(names[one], [pictures[one][rank] for rank in sorted(pictures[one])]) for one in chosen]


def _best_rows(retrieved: Artifact, class_ids: list[int]) -> dict[int, list[tuple[int, int]]]:
    """(part, row) of the best pairs of each class that has any, best first."""
    tables = list(retrieved.tables(["class_id", "score"]))
    part = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    row = np.concatenate([np.arange(len(table)) for table in tables])
    both = pa.concat_tables(tables)
    class_id, score = (both[name].fill_null(missing).to_numpy() for name, missing in (("class_id", -1), ("score", 0.0)))
    order = np.lexsort((row, part, -score, class_id))
    starts = np.searchsorted(class_id[order], class_ids)
    ends = np.searchsorted(class_id[order], class_ids, side="right")
    shown = {
        one: order[start : min(end, start + PICTURES_SHOWN)]
        for one, start, end in zip(class_ids, starts, ends, strict=True)
    }
    return {one: list(zip(part[at].tolist(), row[at].tolist(), strict=True)) for one, at in shown.items() if len(at)}


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
        add(
            f"customize {arm}".strip(), Layout(recipe, arm).of_arm("model"), MODEL, ""
        )  # its own time, of a stage that trains all
    add("evaluate", layout.of_run("scores/base"), PREDICTIONS, "evaluate")
    return rows


def _other_seed(uri: str) -> Seed:
    summary = json.loads(open_storage(uri).read("summary.json"))
    return Seed(summary["seed"], summary["tasks"], summary["mean"])
