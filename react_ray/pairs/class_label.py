"""Reads the names of classes that Hugging Face's metadata give to the integers of a column (its feature ClassLabel)."""

from __future__ import annotations

import json

import pyarrow as pa


def class_label_names(columns: pa.Schema, column: str) -> list[str]:
    """Returns the name of each integer of a column; empty if the metadata of the file do not tell."""
    try:
        told = json.loads((columns.metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    if isinstance(told, dict):  # an old form: {"0": name}
        told = [told.get(str(number)) for number in range(len(told))]
    return told if isinstance(told, list) and all(isinstance(name, str) for name in told) else []
