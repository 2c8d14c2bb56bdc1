"""Section: one typed part of a recipe, declared beside the code that it configures.

A field that changes *what* is computed is declared with `field(...)` and digested. A field that changes only *how fast*
(workers, inference batch, placement) or *where* (a URI) is declared with `speed(...)` and not digested. recipe.py
combines all sections.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.config import JsonDict

NOT_DIGESTED: JsonDict = {"digest": False}
MOST_SHOWN = 200  # characters of a value that differs from another


def field(default: Any, doc: str, **constraints: Any) -> Any:
    """Declares a field that changes results. doc: one line with its meaning, unit and cost."""
    return Field(default, description=doc, **constraints)


def speed(default: Any, doc: str, **constraints: Any) -> Any:
    """Declares a field that may change between two runs of the same artifact."""
    return Field(default, description=doc, json_schema_extra=NOT_DIGESTED, **constraints)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _in_64_bits(cls, value: Any) -> Any:
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError("an integer has at most 64 bits; write a smaller one")
        return value

    def digested(self) -> dict[str, Any]:
        """Returns the fields that change results, as plain JSON values."""
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
    """Returns 16 hex digits of the sha256 of a JSON value, which do not depend on the order of keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Returns a line for every leaf that differs; at the top level, keys that only `found` has (times) are ignored."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(wanted) if not path else sorted(set(found) | set(wanted))
        out: list[str] = []
        for key in keys:
            out += differences(found.get(key), wanted.get(key), f"{path}.{key}" if path else key)
        return out
    if found == wanted:
        return []
    was, now = repr(found), repr(wanted)
    same = next((place for place, (one, other) in enumerate(zip(was, now, strict=False)) if one != other), len(now))
    return [f"{path} was {_around(was, same)}, now {_around(now, same)}"]


def _around(text: str, place: int) -> str:
    """The text, or what surrounds a place in it if it is long, as a list of a thousand classes is."""
    if len(text) <= MOST_SHOWN:
        return text
    first = max(0, place - MOST_SHOWN // 4)
    last = first + MOST_SHOWN
    return f"{'...' * (first > 0)}{text[first:last]}{'...' * (last < len(text))}"
