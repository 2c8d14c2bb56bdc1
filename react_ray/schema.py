"""The data dictionary: every table that is stored, declared once.

A row that failed keeps its place: its `status` says why, its payload is null.
"""

from __future__ import annotations

import pyarrow as pa

# Values of `status`.
OK = "ok"
UNDECODABLE = "undecodable"  # damaged or truncated; from a source of images also bytes that are none
TOO_LARGE = "too_large"  # refused by its number of pixels before decoding
EMPTY = "empty"  # no bytes at all
NOT_AN_IMAGE = "not_an_image"  # a download of something else: a web page, a video
TOO_SMALL = "too_small"  # the shorter side is below store.min_image_size
TOO_LARGE_AREA = "too_large_area"  # more pixels than store.max_image_area
ASPECT = "aspect"  # longer than store.max_aspect_ratio times its width
NOT_FINITE = "not_finite"  # the model gave a NaN or a null vector
NO_CAPTION = "no_caption"  # where only captions are embedded
CORRUPT = "corrupt"  # of a part whose file could not be read, and that was put aside (--skip-corrupt)

PAIRS = pa.schema([("pair_id", pa.int64()), ("url", pa.string()), ("caption", pa.string())])

IMAGES = pa.schema(
    [
        ("pair_id", pa.int64()),
        ("caption", pa.string()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("sha256", pa.string()),
        ("phash", pa.uint64()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)


def vector(dim: int) -> pa.DataType:
    """A unit vector as stored: D little-endian float16, bit-exact through Parquet. See vectors.py."""
    return pa.binary(2 * dim)


def dim_of(vector: pa.DataType) -> int:
    width: int = vector.byte_width
    return width // 2


def embeddings(dim: int, heads: list[str] | None = None) -> pa.Schema:
    """similarity: of image and text, null unless there are both. heads: names of linear heads, a score each."""
    return pa.schema(
        [
            ("pair_id", pa.int64()),
            ("image", vector(dim)),
            ("text", vector(dim)),
            ("status", pa.string()),
            ("similarity", pa.float32()),
            *((name, pa.float32()) for name in heads or []),
        ]
    )


def queries(dim: int) -> pa.Schema:
    return pa.schema(
        [
            ("query_id", pa.int32()),
            ("class_id", pa.int32()),
            ("task", pa.string()),
            ("class_name", pa.string()),
            ("prompt", pa.string()),
            ("modality", pa.string()),  # what was embedded: "text" or "image"
            ("embedding", vector(dim)),
        ]
    )


# `key` is the side of the pair that was searched: "image" or "text".
HITS = pa.schema(
    [
        ("query_id", pa.int32()),
        ("pair_id", pa.int64()),
        ("score", pa.float32()),
        ("rank", pa.int32()),
        ("key", pa.string()),
    ]
)

MATCH = pa.struct([("class_id", pa.int32()), ("prompt", pa.string()), ("score", pa.float32()), ("key", pa.string())])


def retrieved(dim: int, pairs: pa.Schema = PAIRS) -> pa.Schema:
    """`pairs` (with whatever extra columns its source had), then why each pair was taken and its caption's vector."""
    schema = pairs
    for field in (
        pa.field("class_id", pa.int32()),
        pa.field("score", pa.float32()),
        pa.field("matches", pa.list_(MATCH)),
        pa.field("text_embedding", vector(dim)),
    ):
        schema = schema.append(field)
    return schema


PREDICTIONS = pa.schema(
    [
        ("row", pa.int32()),
        ("dataset", pa.string()),
        ("task", pa.string()),
        ("label", pa.string()),
        ("predicted", pa.string()),
        ("score", pa.float32()),
        ("rank", pa.int32()),  # of the true class, 0 = top-1; null where the image could not be decoded
    ]
)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Select and cast to exactly `schema`; a missing column is our own bug."""
    return table.select(schema.names).cast(schema)
