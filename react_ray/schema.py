"""The data dictionary: declares every stored table once.

A row that failed keeps its place: its `status` gives the reason, and its payload is null.
"""

from __future__ import annotations

import pyarrow as pa

# Values of `status`.
OK = "ok"
UNDECODABLE = "undecodable"  # the image is damaged or truncated; in a source of images, also bytes of another kind
TOO_LARGE = "too_large"  # the image has too many pixels to be decoded
EMPTY = "empty"  # there are no bytes at all
NOT_AN_IMAGE = "not_an_image"  # the download is something else: a web page, a video
TOO_SMALL = "too_small"  # the shorter side is below store.min_image_size
TOO_LARGE_AREA = "too_large_area"  # the image has more pixels than store.max_image_area
ASPECT = "aspect"  # the longer side exceeds store.max_aspect_ratio times the shorter one
NOT_FINITE = "not_finite"  # the model's output is not finite, or the null vector
NO_CAPTION = "no_caption"  # there is no caption, and only captions are embedded
REPLACED = "replaced_characters"  # the caption has U+FFFD, which stands for what its encoding does not have
INTERNAL_ERROR = "internal_error"  # an exception that nobody foresaw; `error` begins with its name
CRASHED = "crashed"  # the process that worked on the row died, again and again
TOO_SLOW = "too_slow"  # the image takes longer to decode than max_decode_s
CORRUPT = "corrupt"  # the file of the row's part cannot be read, and --skip-corrupt put the part aside

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
    """The type of a stored unit vector: D little-endian float16 values, bit-exact through Parquet. See vectors.py."""
    return pa.binary(2 * dim)


def dim_of(vector: pa.DataType) -> int:
    width: int = vector.byte_width
    return width // 2


def embeddings(dim: int, heads: list[str] | None = None) -> pa.Schema:
    """`similarity` is the cosine of image and text, null unless both exist. heads: names of the columns of scores."""
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
            ("modality", pa.string()),  # "text" or "image", whichever was embedded
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
    """`pairs` with the extra columns of its source, then why each pair was selected, and its caption's vector."""
    schema = pairs
    for field in (
        pa.field("class_id", pa.int32()),
        pa.field("score", pa.float32()),
        pa.field("matches", pa.list_(MATCH)),
        pa.field("text_embedding", vector(dim)),
    ):
        schema = schema.append(field)
    return schema


def features(dim: int) -> pa.Schema:
    """Image vectors of retrieved pairs by a customised model. view: 0 = the image itself, others are augmented."""
    return pa.schema(
        [
            ("pair_id", pa.int64()),
            ("class_id", pa.int32()),
            ("matched", pa.map_(pa.int32(), pa.float32())),  # class id -> weight
            ("view", pa.int32()),
            ("image", vector(dim)),
        ]
    )


def labelled_features(dim: int) -> pa.Schema:
    """Image vectors of a labelled set. position: of the class in its task where the label is one, null for a name."""
    return pa.schema(
        [
            ("row", pa.int32()),  # of the set
            ("task", pa.string()),
            ("label", pa.string()),
            ("position", pa.int32()),
            ("also", pa.list_(pa.string())),  # its other labels, null if there are none
            ("status", pa.string()),
            ("sha256", pa.string()),  # of the encoded image, null without one
            ("image", vector(dim)),
        ]
    )


def class_vectors(dim: int) -> pa.Schema:
    """The zero-shot classifier of one task: a unit vector per class, not rounded to float16."""
    return pa.schema([("position", pa.int32()), ("class_name", pa.string()), ("text", pa.list_(pa.float32(), dim))])


def image_text_vectors(dim: int) -> pa.Schema:
    """What image-text retrieval ranks. image: null if it could not be read. texts: of the captions of the image."""
    return pa.schema([("image", vector(dim)), ("texts", pa.list_(vector(dim)))])


# What segmentation counts in one image: pixels of each class of the task.
SEGMENTED = pa.schema(
    [
        ("file", pa.string()),  # of the mask
        ("status", pa.string()),
        ("right", pa.list_(pa.int64())),
        ("labelled", pa.list_(pa.int64())),
        ("predicted", pa.list_(pa.int64())),
    ]
)
# What detection finds in one image.
FOUND_BOX = pa.struct(
    [("category_id", pa.int64()), ("bbox", pa.list_(pa.float64())), ("score", pa.float32())]  # left, top, width, height
)
DETECTED = pa.schema([("image_id", pa.int64()), ("status", pa.string()), ("detections", pa.list_(FOUND_BOX))])
PREDICTIONS = pa.schema(
    [
        ("row", pa.int32()),
        ("dataset", pa.string()),
        ("task", pa.string()),
        ("label", pa.string()),
        ("predicted", pa.string()),
        ("score", pa.float32()),
        ("rank", pa.int32()),  # rank of the true class, 0 = top-1; null if the image could not be decoded
    ]
)
# Of tasks whose metric needs them: the other labels of an image, and log-probabilities of all classes.
WITH_CLASS_SCORES = pa.schema([*PREDICTIONS, ("also", pa.list_(pa.string())), ("class_scores", pa.list_(pa.float32()))])
SCORES = pa.schema(
    [
        ("protocol", pa.string()),
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("num", pa.int64()),
        ("shots", pa.int32()),  # -1 = all
        ("seed", pa.int64()),
        ("setting", pa.string()),
    ]
)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Selects the columns of `schema` and casts them; a missing column is our own bug."""
    return table.select(schema.names).cast(schema)
