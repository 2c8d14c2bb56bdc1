"""Lists the fields of a verb's sections, for --help."""

from __future__ import annotations

from typing import Any


def fields_help(sections: list[str]) -> str:
    """Lists the fields of these sections with defaults and meanings."""
    from react_ray.recipe import Recipe  # pydantic's models, which other commands do not wait for

    return "\n".join(line for section in sections for line in _lines(section, Recipe.model_fields[section].annotation))


def _lines(path: str, model: Any) -> list[str]:
    """Gives one entry per field, and below a nested section the fields of that section."""
    from pydantic_core import PydanticUndefined

    from react_ray.section import Section

    lines = []
    for name, info in model.model_fields.items():
        default = "required" if info.default is PydanticUndefined else repr(info.default)
        lines.append(f"  {path}.{name} = {default}\n      {info.description}")
        if isinstance(info.default, Section):
            lines += _lines(f"{path}.{name}", info.annotation)
    return lines
