"""A folder of Parquet files with image bytes and captions in; parts of `pairs` and `images` out.

The files are read as one long table in the order of their names, cut into parts of `rows_per_part` rows. Only footers
are read to plan the parts, and only the row groups that a part touches to read it. A Source is small and picklable: plan
once, read anywhere. Next: image.py, which looks at the bytes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.errors import ConfigError, StorageError
from react_ray.pair_id import MAX_ROWS_PER_PART, pair_ids
from react_ray.pairs.image import MAX_PIXELS, inspect
from react_ray.section import Section, field
from react_ray.storage import list_files, open_parquet

RESERVED = frozenset(schema.retrieved(1).names)  # an extra column of one of these names gets the prefix `source_`


class IngestConfig(Section):
    source: str = field(..., "URI of a Parquet file with image bytes, or of a folder of such files")
    image_column: str = field("image", "column of encoded images: binary, or a struct with a binary field `bytes`")
    caption_column: str = field("caption", "column of captions: string, or list of strings (the first is the caption)")
    url_column: str = field("", "column of the pages or images the pairs come from; empty = none")
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


@dataclass(frozen=True)
class Part:
    part: int
    row_start: int  # in the whole source
    num_rows: int


@dataclass(frozen=True)
class RowGroup:
    uri: str
    index: int
    row_start: int
    num_rows: int
    num_bytes: int


@dataclass(frozen=True)
class Source:
    config: IngestConfig
    columns: list[str]
    num_rows: int
    row_groups: list[RowGroup]

    @property
    def parts(self) -> list[Part]:
        step = self.config.rows_per_part
        starts = range(0, self.num_rows, step)
        return [Part(part, start, min(step, self.num_rows - start)) for part, start in enumerate(starts)]

    @property
    def num_bytes(self) -> int:
        return sum(group.num_bytes for group in self.row_groups)

    def read(self, part: int) -> pa.Table:
        """All columns of one part."""
        if not 0 <= part < len(self.parts):
            raise IndexError(f"part {part} of {len(self.parts)}")
        plan = self.parts[part]
        stop = plan.row_start + plan.num_rows
        needed = [g for g in self.row_groups if g.row_start < stop and g.row_start + g.num_rows > plan.row_start]
        by_uri: dict[str, list[int]] = {}
        for group in needed:
            by_uri.setdefault(group.uri, []).append(group.index)
        tables = [_read_row_groups(uri, indices, self.columns) for uri, indices in by_uri.items()]
        return pa.concat_tables(tables).slice(plan.row_start - needed[0].row_start, plan.num_rows)


def open_source(config: IngestConfig) -> Source:
    """Plan the parts. StorageError if nothing is there, ConfigError if it is not what the config says."""
    uris = list_files(config.source, ".parquet")
    if not uris:
        raise StorageError(
            f"cannot read {config.source}: no such file, nor a folder with *.parquet; check ingest.source"
        )
    columns: list[str] = []
    row_groups: list[RowGroup] = []
    num_rows = 0
    for uri in uris:
        file = open_parquet(uri)
        if not columns:
            columns = list(file.schema_arrow.names)
            _check_columns(file.schema_arrow, config)
        elif missing := sorted(set(columns) - set(file.schema_arrow.names)):
            raise ConfigError(
                f"ingest.source: {uri} lacks the columns {missing} of {uris[0]}; name a folder of one schema"
            )
        for index in range(file.num_row_groups):
            rows = file.metadata.row_group(index).num_rows
            if rows:
                row_groups.append(RowGroup(uri, index, num_rows, rows, file.metadata.row_group(index).total_byte_size))
                num_rows += rows
    if not num_rows:
        raise ConfigError(
            f"ingest.source: the pool is empty: {config.source} has no rows; name a source with pairs in it"
        )
    return Source(config, columns, min(num_rows, config.max_rows or num_rows), row_groups)


def to_pairs(table: pa.Table, part: int, config: IngestConfig) -> pa.Table:
    """schema.PAIRS, then every other column of the source but the image, as it is.

    A list of captions is kept as the extra column `captions`. A missing caption is the empty string.
    """
    captions = table[config.caption_column]
    urls = table[config.url_column].cast(pa.string()) if config.url_column else pa.nulls(len(table), pa.string())
    columns = {
        "pair_id": pa.array(pair_ids(part, len(table))),
        "url": urls,
        "caption": _first_captions(captions),
    }
    if _is_list(captions.type):
        columns["captions"] = captions
    for name in table.column_names:
        if name not in (config.image_column, config.caption_column, config.url_column):
            columns[f"source_{name}" if name in RESERVED or name in columns else name] = table[name]
    return pa.table(columns)


def to_images(table: pa.Table, part: int, config: IngestConfig, num_threads: int = 1) -> pa.Table:
    """schema.IMAGES, one row per row of the source; bytes are kept as they are, or null where they are no image."""
    images: list[bytes | None] = _image_bytes(table[config.image_column]).to_pylist()
    look = partial(inspect, max_pixels=config.max_pixels)
    if num_threads <= 1:  # small images are three times slower through a pool of one thread
        facts = [look(data) for data in images]
    else:
        with ThreadPoolExecutor(num_threads) as pool:
            facts = list(pool.map(look, images))
    columns = pa.Table.from_pylist(
        [asdict(fact) for fact in facts],
        schema=pa.schema(
            [schema.IMAGES.field(name) for name in ("width", "height", "sha256", "phash", "status", "error")]
        ),
    )
    columns = columns.append_column("pair_id", pa.array(pair_ids(part, len(table))))
    columns = columns.append_column("caption", _first_captions(table[config.caption_column]))
    kept = [data if fact.status == schema.OK else None for data, fact in zip(images, facts, strict=True)]
    columns = columns.append_column("image", pa.array(kept, pa.binary()))
    columns = columns.append_column("original_width", columns["width"])
    columns = columns.append_column("original_height", columns["height"])
    return schema.conform(columns, schema.IMAGES)


def _check_columns(found: pa.Schema, config: IngestConfig) -> None:
    for name in ("image_column", "caption_column", "url_column"):
        column = getattr(config, name)
        if column not in found.names and not (name == "url_column" and not column):
            raise ConfigError(
                f"ingest.{name}: no column {column!r} in {config.source}; it has {', '.join(found.names)}"
            )
    image, caption = found.field(config.image_column).type, found.field(config.caption_column).type
    if not (_is_binary(image) or (pa.types.is_struct(image) and image.get_field_index("bytes") >= 0)):
        raise ConfigError(
            f"ingest.image_column: {config.image_column!r} is {image}, not image bytes; name a binary column"
        )
    if not _is_text(caption.value_type if _is_list(caption) else caption):
        raise ConfigError(
            f"ingest.caption_column: {config.caption_column!r} is {caption}, not text; name a string column"
        )


def _read_row_groups(uri: str, indices: list[int], columns: list[str]) -> pa.Table:
    try:
        return open_parquet(uri).read_row_groups(indices, columns=columns).select(columns)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"cannot read {uri}: {error}; the file is damaged or has changed: write it again") from error


def _first_captions(captions: pa.ChunkedArray) -> pa.ChunkedArray:
    if _is_list(captions.type):
        empty = pc.equal(pc.fill_null(pc.list_value_length(captions), 0), 0)
        captions = pc.list_element(pc.if_else(empty, pa.scalar([""], captions.type), captions), 0)
    return pc.fill_null(captions.cast(pa.string()), "")


def _image_bytes(images: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
