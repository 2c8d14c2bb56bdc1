"""The section `ingest` of a recipe: where pairs come from, and which of their columns are what. Next: columns.py."""

from __future__ import annotations

from typing import Literal

from react_ray.pair_id import MAX_ROWS_PER_PART
from react_ray.pairs.image import MAX_PIXELS
from react_ray.section import Section, field

FormatName = Literal["", "parquet", "arrow", "tar", "csv", "tsv", "jsonl", "json", "txt", "images", "npy", "npz"]


class IngestConfig(Section):
    source: str = field(..., "URI of a file, a folder or a glob: pairs with images, or URLs of images with captions")
    format: FormatName = field(
        "",
        "parquet, arrow, tar, csv, tsv, jsonl, json, txt, images, npy (clip-retrieval) or npz (DataComp); empty = by the names of files",
    )
    image_column: str = field(
        "",
        "column of encoded images: binary, or a struct with a binary field `bytes`; empty = image, jpg, png or webp, if there is one",
    )
    caption_column: str = field(
        "", "column of captions: string, or list of strings (the first is the caption); empty = caption, TEXT or text"
    )
    url_column: str = field(
        "", "column of the URLs of images or of where the pairs come from; empty = url or URL, if there is one"
    )
    image_vector_column: str = field(
        "",
        "column of published vectors of images, lists of floats, made by the recipe's backbone: they are not embedded again",
    )
    text_vector_column: str = field("", "as image_vector_column, of captions")
    vector_prefix: str = field("", "of DataComp's .npz: b32 or l14; empty = the only one it has")
    similarity_column: str = field(
        "",
        "published similarity of image and text, which proves the order of vectors; empty = by its usual names, none = do not compare",
    )
    rows_per_part: int = field(
        2048,
        "rows of a part; larger = fewer files, more memory and more lost with a failure",
        ge=1,
        le=MAX_ROWS_PER_PART,
    )
    max_rows: int = field(0, "read only the first rows, for reduced runs; 0 = all", ge=0)
    max_pixels: int = field(
        MAX_PIXELS, "images of more pixels are refused before decoding (memory: 3 bytes each)", ge=1
    )
