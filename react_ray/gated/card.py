"""Writes the model card, plain JSON for people and registries: what a model is, what it was trained on, its limits."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

LICENSE_COLUMNS = ("license", "licence", "LICENSE")
PAPER = "https://arxiv.org/abs/2301.07094"
LIMITS = (
    "Trained for the classes below; what it lost on other tasks is not measured unless `scores` says so.",
    "Images and captions come from the source of the run's recipe.yaml, with their own licences; they are not part of "
    "the model.",
)


def data_card(tables: list[pa.Table], class_names: list[str], content: str, recipe: str) -> dict[str, Any]:
    """The card's part on the retrieved pairs.

    tables: have class_id, and a column of licences if the source has one. content: digest of the retrieved artifact.
    recipe: the recipe's name; the location of the source is in the run's recipe.yaml. A class name that is in two tasks
    counts as two classes.
    """
    counts = [0] * len(class_names)
    licences: dict[str, int] = {}
    for table in tables:
        for entry in pc.value_counts(table["class_id"]).to_pylist():
            if entry["values"] is not None and 0 <= entry["values"] < len(counts):
                counts[entry["values"]] += entry["counts"]
        for name in set(LICENSE_COLUMNS) & set(table.column_names):
            for entry in pc.value_counts(table[name]).to_pylist():
                licences[str(entry["values"])] = licences.get(str(entry["values"]), 0) + entry["counts"]
    return {
        "recipe": recipe,
        "content": content,
        "num_pairs": sum(table.num_rows for table in tables),
        "pairs_by_class": [[name, count] for name, count in zip(class_names, counts, strict=True)],
        "licences": dict(sorted(licences.items(), key=lambda item: -item[1])) or "not given by the source",
    }


def model_card(
    info: dict[str, Any], data: dict[str, Any], scores: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The whole card. info: as in gated.json. scores: rows of dataset, task, metric and value."""
    return {
        "method": info.get("method"),
        "paper": PAPER,
        "backbone": info.get("backbone"),
        "pretrained": info.get("backbone_config", {}).get("pretrained"),
        "steps": info.get("steps"),
        "pairs_seen": info.get("pairs_seen"),
        "recipe_digest": info.get("digest"),
        "data": data,
        "scores": scores or [],
        "limits": list(LIMITS),
    }


def json_bytes(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
