"""Writes a name that others chose, of a class, a task or a model, so that it changes nothing but its own place."""

from __future__ import annotations

from html import escape

from react_ray.metadata import printable, shortened

MOST = 100  # characters, of the thousands that a class may have
LONG = 40  # from here on a name has lines of its own


def name(text: str) -> str:
    """HTML. The name is isolated, because one in Arabic or Hebrew would turn around what stands beside it, and cut."""
    kind = ' class="long"' if len(text) > LONG else ""
    return f"<bdi{kind}>{escape(shortened(printable(text), MOST))}</bdi>"
