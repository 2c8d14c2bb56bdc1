"""Where the run and the database of a recipe lie: what a recipe leaves out, and what it must not name."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from react_ray.errors import ConfigError
from react_ray.kinds import KINDS
from react_ray.uri import matches, split_glob, target


def placed(values: dict[str, Any], recipe_uri: str) -> dict[str, Any]:
    """`values` of a recipe with `name`, `out` and `database`, which it may leave out.

    Workers have working directories of their own: what a relative path means is settled here, once. Values that are
    no texts stay as they are, for the recipe's types to refuse.
    """
    name = values.get("name") or PurePosixPath(recipe_uri).stem
    out = values.get("out") or f"runs/{name}"
    out = target(out, "out") if isinstance(out, str) else out
    database = values.get("database") or f"{out}/database"
    database = target(database, "database") if isinstance(database, str) else database
    return values | {"name": name, "out": out, "database": database}


def require_apart(out: str, database: str, source: str) -> None:
    """ConfigError if one of the places would be read, or deleted, as a part of another. source: "" = there is none."""
    if out == database:
        raise ConfigError(f"out and database are both {out}; give the run a folder of its own")
    if not source:
        return
    root, pattern = split_glob(source)
    for name, place in (("out", out), ("database", database)):
        inside = f"{place}/".startswith(f"{root.rstrip('/')}/")
        file = f"{place}/pairs/part-00000.parquet".removeprefix(f"{root.rstrip('/')}/")
        if inside and (not pattern or matches(file, pattern)):
            raise ConfigError(
                f"{name}={place} lies inside ingest.source={source}, which would read what is written there as pairs; "
                "name a folder outside of it"
            )
        if f"{root}/".startswith(tuple(f"{place}/{kind}/" for kind in KINDS)):
            raise ConfigError(
                f"ingest.source={source} lies where {name}={place} keeps its artifacts; name another folder as {name}"
            )
