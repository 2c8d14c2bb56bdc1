"""Finds the columns of image, caption, URL and published vectors: named by the recipe, or with a usual name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.pairs.image_cells import holds_bytes
from react_ray.pairs.ingest_config import IngestConfig

IMAGE_NAMES = ("image", "jpg", "png", "webp")
CAPTION_NAMES = ("caption", "TEXT", "text")
URL_NAMES = ("url", "URL")
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
    names = ", ".join(found.names) or "none"
    if image_vector or text_vector:
        return Columns(image, caption, url, image_vector, text_vector)
    if not (image or url):
        raise ConfigError(
            f"ingest.source: {config.source} has no column of image bytes ({', '.join(IMAGE_NAMES)}) "
            f"nor of URLs ({', '.join(URL_NAMES)}); its columns are {names}: "
            "name one with ingest.image_column or ingest.url_column"
        )
    if not caption and set(found.names) - {image, url}:
        raise ConfigError(
            f"ingest.source: {config.source} has no column of captions ({', '.join(CAPTION_NAMES)}); "
            f"its columns are {names}: name one with ingest.caption_column"
        )
    return Columns(image, caption, url)


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
        return next((name for name in usual if name in found.names and fits(found.field(name).type)), "")
    if named not in found.names:
        raise ConfigError(
            f"ingest.{field}: no column {named!r} in {config.source}; name one of its columns: {', '.join(found.names)}"
        )
    if not fits(found.field(named).type):
        raise ConfigError(f"ingest.{field}: {named!r} is {found.field(named).type}, {otherwise}")
    return named


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_vector(kind: pa.DataType) -> bool:
    return (is_list(kind) or pa.types.is_fixed_size_list(kind)) and pa.types.is_floating(kind.value_type)


def _is_captions(kind: pa.DataType) -> bool:
    return _is_text(kind.value_type if is_list(kind) else kind)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
