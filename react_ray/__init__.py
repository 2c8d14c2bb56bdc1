"""REACT on Ray. Importing the package loads nothing heavy: each public name loads what it needs at its first use."""

from __future__ import annotations

import importlib
import os
from typing import Any

# Ray reads both on import. It would print a paragraph for each process that dies, of which the stage says a line.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "worker died or was killed|killed due to memory pressure")
# `uv run react-ray` would otherwise make Ray package the working directory for every worker.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

__version__ = "0.1.0"

_PUBLIC = {
    "connect": "react_ray.serving.client",
    "create_model_and_transforms": "react_ray.gated.models",
    "get_tokenizer": "react_ray.gated.models",
    "load_head": "react_ray.training.run_head",
    "load_recipe": "react_ray.recipe",
    "Recipe": "react_ray.recipe",
    "open_artifact": "react_ray.artifact",
    "open_database": "react_ray.search.open_database",
    "verify": "react_ray.stages.verify",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
