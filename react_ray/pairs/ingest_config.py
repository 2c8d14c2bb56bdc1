"""Defines IngestConfig, the section `ingest` of a recipe: where pairs come from, and what their columns hold."""

from __future__ import annotations

import codecs
from typing import Literal

from pydantic import field_validator

from react_ray.pair_id import MAX_ROWS_PER_PART
from react_ray.pairs.decode_limits import MAX_DECODE_S, MAX_PIXELS
from react_ray.section import Section, field, speed

FormatName = Literal["", "parquet", "arrow", "tar", "csv", "tsv", "jsonl", "json", "txt", "images", "npy", "npz"]


class IngestConfig(Section):
    source: str = field(
        "",
        "URI of a file, a folder or a glob, which has pairs with images, or URLs of images and captions; empty = there "
        "is none, for a recipe that evaluates alone",
    )
    format: FormatName = field(
        "",
        "parquet, arrow, tar, csv, tsv, jsonl, json, txt, images, npy (clip-retrieval) or npz (DataComp); "
        "empty = inferred from file names",
    )
    encoding: str = field(
        "",
        "encoding of csv, tsv, txt and JSON (in tars too) without a byte order mark, such as cp1252; "
        "empty = UTF-8, or UTF-16 if it looks like it",
    )
    image_column: str = field(
        "",
        "column of encoded images: binary, a struct {bytes, path} (a file below the table's folder is read where bytes "
        "are null), or lists of one of these; of tars, suffixes by preference; "
        "empty = image, jpg, png or webp, if there is one",
    )
    caption_column: str = field(
        "", "column of captions: strings, or lists of strings whose first is the caption; empty = caption, TEXT or text"
    )
    url_column: str = field(
        "",
        "column of URLs: of the images, or of the pages that pairs come from; a number from 0 in a csv without a line "
        "of names; empty = url or URL, if there is one",
    )
    image_vector_column: str = field(
        "",
        "column of published image vectors (lists of floats) made by the recipe's backbone; embed is not needed then; "
        "empty = image_vector, if there is one",
    )
    text_vector_column: str = field("", "as image_vector_column, for captions; empty = text_vector, if there is one")
    vector_prefix: str = field(
        "", "which vectors of DataComp's .npz files: b32 or l14; empty = the only ones they have"
    )
    similarity_column: str = field(
        "",
        "column of published image-text similarities, by which the order of the vectors is checked; "
        "empty = its usual names, none = no check",
    )
    rows_per_part: int = field(
        2048,
        "rows per part; larger parts mean fewer files, but more memory and more work lost by a failure",
        ge=1,
        le=MAX_ROWS_PER_PART,
    )
    max_rows: int = field(0, "read only this many rows, for small trials; 0 = all", ge=0)
    max_pixels: int = field(
        MAX_PIXELS,
        "refuse images with more pixels before decoding them (4 to 16 bytes of memory per pixel)",
        ge=1,
    )
    max_decode_s: float = speed(
        MAX_DECODE_S, "refuse images that would take longer to decode, as their headers tell: too many scans", gt=0
    )
    max_unusable: float = speed(
        0.05,
        "refuse a source if planning sees that more than this share of its rows has no image, URL or vector; 1 = never",
        ge=0,
        le=1,
    )

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            "".encode(name or "utf-8")
        except LookupError:
            raise ValueError(
                f"there is no text encoding {name!r}; write for example cp1252, latin-1 or utf-16"
            ) from None
        return codecs.lookup(name).name if name else ""
