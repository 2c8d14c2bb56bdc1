"""REACT on Ray. Importing this loads nothing heavy; the public names below load what they need when they are used."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "create_model_and_transforms": "react_ray.gated.models",
    "get_tokenizer": "react_ray.gated.models",
    "load_recipe": "react_ray.recipe",
    "Recipe": "react_ray.recipe",
    "open_artifact": "react_ray.artifact",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
