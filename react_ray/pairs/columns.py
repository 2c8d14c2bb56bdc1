"""Finds the columns of image, caption, URL and published vectors: named by the recipe, or with a usual name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from react_ray import schema
from react_ray.errors import ConfigError
from react_ray.pairs.column_types import is_list, is_text
from react_ray.pairs.image_cells import holds_bytes
from react_ray.pairs.ingest_config import IngestConfig

IMAGE_NAMES = ("image", "jpg", "png", "webp")
CAPTION_NAMES = ("caption", "TEXT", "text")
URL_NAMES = ("url", "URL")
INDEX = re.compile(r"unnamed_\d+|__index_level_\d+__|index")  # columns that hold no pair's text, as pandas writes them
MAX_LISTED = 30  # columns that a message names
CAPTIONS = "captions"  # the extra column of several captions
RESERVED = frozenset(schema.retrieved(1).names)  # an extra column of one of these names gets the prefix `source_`
IMAGE_VECTOR_NAMES, TEXT_VECTOR_NAMES = ("image_vector",), ("text_vector",)


@dataclass(frozen=True)
class Columns:
    """Names of columns; "" means that there is none. A table without an image column has URLs or vectors."""

    image: str
    caption: str
    url: str
    image_vector: str = ""
    text_vector: str = ""

    @property
    def vectors(self) -> list[str]:
        return [name for name in (self.image_vector, self.text_vector) if name]


def find_columns(found: pa.Schema, config: IngestConfig) -> Columns:
    """Raises ConfigError, with the columns that exist, if image and URL, or captions, are missing.

    Captions may be missing if URLs or images are the only columns.
    """
    image = _find(found, config, "image_column", IMAGE_NAMES, holds_bytes, "not image bytes; name a binary column")
    url = _find(found, config, "url_column", URL_NAMES, _is_text, "not text; name a string column")
    caption = _find(found, config, "caption_column", CAPTION_NAMES, _is_captions, "not text; name a string column")
    no_vectors = "not vectors; name a column of lists of floats"
    image_vector = _find(found, config, "image_vector_column", IMAGE_VECTOR_NAMES, _is_vector, no_vectors)
    text_vector = _find(found, config, "text_vector_column", TEXT_VECTOR_NAMES, _is_vector, no_vectors)
    names = listed(found.names)
    if image_vector or text_vector:
        return Columns(image, caption, url, image_vector, text_vector)
    if not (image or url):
        unfit = [f"{name} is {found.field(name).type}" for name in (*IMAGE_NAMES, *URL_NAMES) if name in found.names]
        raise ConfigError(
            f"ingest.source: {config.source} has no column of image bytes ({', '.join(IMAGE_NAMES)}) "
            f"nor of URLs ({', '.join(URL_NAMES)}); its columns are {names}: "
            + (f"{' and '.join(unfit)}, which holds neither; write encoded images as binary, or " if unfit else "")
            + "name one with ingest.image_column or ingest.url_column"
        )
    if not caption and any(name not in (image, url) and not INDEX.fullmatch(name) for name in found.names):
        raise ConfigError(
            f"ingest.source: {config.source} has no column of captions ({', '.join(CAPTION_NAMES)}); "
            f"its columns are {names}: name one with ingest.caption_column"
        )
    return Columns(image, caption, url)


def listed(names: list[str]) -> str:
    """Returns the names for a message, which is one line however many there are."""
    shown = ", ".join(names[:MAX_LISTED]) or "none"
    return shown if len(names) <= MAX_LISTED else f"{shown} and {len(names) - MAX_LISTED:,} more"


def extra_names(found: pa.Schema, config: IngestConfig) -> dict[str, str]:
    """Returns the names under which `pairs` keep the columns of a source that have no role, each of them once."""
    roles = find_columns(found, config)
    kept: dict[str, str] = {}
    taken = set(RESERVED)
    if roles.caption and is_list(found.field(roles.caption).type):
        taken.add(CAPTIONS)
    extra = [name for name in found.names if name not in (roles.image, roles.caption, roles.url, *roles.vectors)]
    for name in sorted(extra, key=lambda name: name in taken):  # others keep their names, whatever their order
        kept[name] = name
        while kept[name] in taken:
            kept[name] = f"source_{kept[name]}"
        taken.add(kept[name])
    return {name: kept[name] for name in extra}


def _find(
    found: pa.Schema,
    config: IngestConfig,
    field: str,
    usual: tuple[str, ...],
    fits: Callable[[pa.DataType], bool],
    otherwise: str,
) -> str:
    named: str = getattr(config, field)
    if not named:
        there = [name for name in usual if name in found.names and fits(found.field(name).type)]
        with_values = [name for name in there if not pa.types.is_null(found.field(name).type)]
        return next(iter(with_values or there), "")
    if named not in found.names:
        raise ConfigError(
            f"ingest.{field}: no column {named!r} in {config.source}; name one of its columns: {listed(found.names)}"
        )
    if not fits(found.field(named).type):
        raise ConfigError(f"ingest.{field}: {named!r} is {found.field(named).type}, {otherwise}")
    return named


def _is_vector(kind: pa.DataType) -> bool:
    return (is_list(kind) or pa.types.is_fixed_size_list(kind)) and pa.types.is_floating(kind.value_type)


def _is_captions(kind: pa.DataType) -> bool:
    return _is_text(kind.value_type if is_list(kind) else kind)


def _is_text(kind: pa.DataType) -> bool:
    return is_text(kind) or pa.types.is_null(kind)  # pandas writes a column without any value as null
