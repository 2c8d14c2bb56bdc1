"""Section: one typed part of a recipe, declared beside the noun that it configures.

A field that changes *what* is computed is digested; one that changes only *how fast* (workers, inference batch,
placement) or *where* (a URI) is declared with `speed(...)` and is not. Next: recipe.py, the sum of all sections.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

NOT_DIGESTED: JsonDict = {"digest": False}


def field(default: Any, doc: str, **constraints: Any) -> Any:
    """A field with its one line of meaning, unit and cost."""
    return Field(default, description=doc, **constraints)


def speed(default: Any, doc: str, **constraints: Any) -> Any:
    """A field that may change between two runs of the same artifact."""
    return Field(default, description=doc, json_schema_extra=NOT_DIGESTED, **constraints)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def digested(self) -> dict[str, Any]:
        """The fields that change results, as plain JSON values."""
        out: dict[str, Any] = {}
        for name, info in type(self).model_fields.items():
            extra = info.json_schema_extra
            if isinstance(extra, dict) and extra.get("digest") is False:
                continue
            value = getattr(self, name)
            if isinstance(value, Section):
                out[name] = value.digested()
            elif isinstance(value, (list, tuple)):
                out[name] = [v.digested() if isinstance(v, Section) else v for v in value]
            else:
                out[name] = value
        return json.loads(json.dumps(out))


def digest(config: Any) -> str:
    """sha256 of a JSON value, independent of the order of keys; 16 hex digits name a configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """'path: found != wanted' for every leaf that differs; keys only in `found` (such as times) are ignored at the top."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(wanted) if not path else sorted(set(found) | set(wanted))
        out: list[str] = []
        for key in keys:
            out += differences(found.get(key), wanted.get(key), f"{path}.{key}" if path else key)
        return out
    return [] if found == wanted else [f"{path} was {found!r}, now {wanted!r}"]
