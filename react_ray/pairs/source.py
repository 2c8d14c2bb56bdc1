"""Reads a source as one long table that is cut into parts, and converts its parts to rows of `pairs` and `images`.

A source is a file, a folder or a glob of one format (formats/). Its files are read in the order of their names and cut
into parts of `rows_per_part` rows. Files that are added later must sort behind the others and begin a new part, so no
part ever changes. A source without images has URLs or vectors. A Source is picklable: it is planned once and read
anywhere.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby, pairwise

import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.errors import ConfigError
from react_ray.pair_id import pair_ids
from react_ray.pairs.class_label import name_integers, names_in, with_names
from react_ray.pairs.column_types import conform, is_list, plain_schema
from react_ray.pairs.columns import CAPTIONS, extra_names, find_columns, listed
from react_ray.pairs.formats.chunk import Chunk, Format, covering
from react_ray.pairs.formats.detect import detect
from react_ray.pairs.formats.image_folder import ImageFiles
from react_ray.pairs.formats.reading import reading
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.spans import REPLACED
from react_ray.pairs.image import ImageFacts, inspect
from react_ray.pairs.image_cells import image_cells, resolve
from react_ray.pairs.ingest_config import IngestConfig
from react_ray.pairs.partitions import partition_of, with_partition
from react_ray.pairs.settled import Settled
from react_ray.row_guard import unforeseen
from react_ray.section import digest
from react_ray.uri import split_glob

__all__ = ["IngestConfig", "Part", "Source", "caption_statuses", "open_source", "to_images", "to_pairs"]


@dataclass(frozen=True)
class Part:
    part: int
    row_start: int  # in the whole source
    num_rows: int


@dataclass(frozen=True)
class Source:
    """A planned source: which rows of which files make each part."""

    config: IngestConfig
    format: Format
    schema: pa.Schema
    num_rows: int
    chunks: list[Chunk]
    ends: tuple[int, ...] = ()  # total number of rows at each time the source was cut
    seen: Seen = field(default_factory=Seen)

    @property
    def columns(self) -> list[str]:
        return list(self.schema.names)

    @property
    def has_images(self) -> bool:
        """False for a URL list, from which only `pairs` can be made."""
        return bool(find_columns(self.schema, self.config).image)

    @property
    def has_vectors(self) -> bool:
        """True for published vectors, from which `embeddings` are made."""
        return bool(find_columns(self.schema, self.config).vectors)

    @property
    def parts(self) -> list[Part]:
        step = self.config.rows_per_part
        bounds = [0, *(end for end in self.ends if end < self.num_rows), self.num_rows]
        starts = [(start, behind) for first, behind in pairwise(bounds) for start in range(first, behind, step)]
        return [Part(part, start, min(step, behind - start)) for part, (start, behind) in enumerate(starts)]

    @property
    def num_bytes(self) -> int:
        return sum(chunk.num_bytes for chunk in self.chunks)

    def summary(self) -> list[str]:
        """Returns how the source is read, for the terminal and the manifest: columns, then what is not used and why."""
        found = find_columns(self.schema, self.config)
        roles = {name: column for name, column in asdict(found).items() if column}
        taken = ", ".join(f"{role} = {column}" for role, column in roles.items())
        others = [name for name in self.columns if name not in roles.values()]
        renamed = {name: new for name, new in extra_names(self.schema, self.config).items() if name != new}
        others = [f"{name} as {renamed[name]}" if name in renamed else name for name in others]
        kept = f"; kept beside them: {listed(others)}" if others else ""
        return [f"{self.num_rows:,} rows; columns: {taken}{kept}", *self.seen.lines()]

    def files_before(self, end: int) -> str:
        """Returns a digest of the files that hold the first `end` rows: their relative names and numbers of rows."""
        root = split_glob(self.config.source)[0]
        rows: dict[str, int] = {}
        for chunk in self.chunks:
            if isinstance(self.format, ImageFiles):
                rows |= dict.fromkeys(chunk.names[: max(0, end - chunk.row_start)], 1)
            elif chunk.row_start < end or chunk.uri in rows:
                rows[chunk.uri] = rows.get(chunk.uri, 0) + chunk.num_rows
        return digest([[uri.removeprefix(root), num_rows] for uri, num_rows in rows.items()])

    def read(self, part: int) -> pa.Table:
        """Reads all columns of one part."""
        if not 0 <= part < len(self.parts):
            raise IndexError(f"part {part} of {len(self.parts)}")
        return self.read_rows(self.parts[part].row_start, self.parts[part].num_rows)

    def read_rows(self, start: int, count: int) -> pa.Table:
        """Reads all columns of some rows of the whole source, of which there is at least one."""
        needed = covering(self.chunks, start, count)
        tables = [self._read(uri, list(chunks)) for uri, chunks in groupby(needed, key=lambda chunk: chunk.uri)]
        return pa.concat_tables(tables).slice(start - needed[0].row_start, count)

    def _read(self, uri: str, chunks: list[Chunk]) -> pa.Table:
        with reading(uri):
            table = self.format.read(uri, chunks, self.schema)
            num_rows = sum(chunk.num_rows for chunk in chunks)
            if table.num_rows != num_rows:
                raise ValueError(f"{table.num_rows} rows where {num_rows} were")
            table = name_integers(table, self.schema)
            table = conform(with_partition(table, partition_of(uri, self.config.source)), self.schema, uri)
            if image := find_columns(self.schema, self.config).image:
                table = table.set_column(table.column_names.index(image), image, resolve(table[image], uri))
            return table


def open_source(config: IngestConfig, ends: tuple[int, ...] = ()) -> Source:
    """Plans the parts. Raises StorageError if there are no files, ConfigError if they are not as the config says.

    Files behind `max_rows` are not opened. ends: those of the Source before files were added; () = cut from the start.
    """
    if not config.source:
        raise ConfigError("ingest.source: missing; add it to the recipe or write ingest.source=... on the command line")
    seen = Seen()
    format, uris = detect(config, seen)
    settled = Settled(config, format)
    chunks: list[Chunk] = []
    num_rows = 0
    for uri in uris:
        with reading(uri):
            cut_at = max((end for end in ends if end <= num_rows), default=0)
            found, in_file = format.plan(uri, num_rows - cut_at, config.rows_per_part, seen)
            found = plain_schema(with_names(found, config.caption_column), uri)
            for field in found:
                if names := names_in(field):
                    seen.note(f"the integers of {field.name} are read as the names of their classes, as {names[0]!r}")
            for name in partition_of(uri, config.source):
                found = found if name in found.names else found.append(pa.field(name, pa.string()))
            settled.begin(found, seen)
            is_added = bool(ends) and num_rows >= ends[0]
            num_before = num_rows
            for chunk in in_file:
                settled.check()
                chunks.append(replace(chunk, row_start=cut_at + chunk.row_start))
                num_rows += chunk.num_rows
                if 0 < config.max_rows <= num_rows:
                    break
            settled.end(found, seen, uri, num_rows - num_before, is_added)
        if 0 < config.max_rows <= num_rows:
            break
    columns = settled.columns()
    if columns is None:
        raise ConfigError(
            f"ingest.source: the pool is empty: {config.source} has no rows; name a source with pairs in it"
        )
    if seen.num_unusable > config.max_unusable * num_rows:
        raise ConfigError(
            f"ingest.source: {seen.num_unusable:,} of the {num_rows:,} rows of {config.source} cannot be used: "
            f"{'; '.join(f'{reason}: {counted.text()}' for reason, counted in seen.unusable.items())}; "
            "correct the source, or allow it with ingest.max_unusable"
        )
    num_rows = min(num_rows, config.max_rows or num_rows)
    return Source(config, format, columns, num_rows, chunks, tuple(sorted({*ends, num_rows})), seen)


def to_pairs(table: pa.Table, part: int, config: IngestConfig) -> pa.Table:
    """Returns the columns of schema.PAIRS, then all other columns of the source except images and vectors, unchanged.

    A list of captions is kept as the extra column `captions`. A missing caption becomes the empty string, an empty URL
    null.
    """
    found = find_columns(table.schema, config)
    columns = {
        "pair_id": pa.array(pair_ids(part, len(table))),
        "url": _urls(table, found.url),
        "caption": _captions(table, found.caption),
    }
    if found.caption and is_list(table[found.caption].type):
        columns[CAPTIONS] = table[found.caption]
    for name, kept in extra_names(table.schema, config).items():
        columns[kept] = table[name]
    return pa.table(columns)


def caption_statuses(captions: pa.ChunkedArray | pa.Array) -> dict[str, int]:
    """Counts captions that are missing, and those with characters that could not be decoded."""
    counts = {
        schema.NO_CAPTION: pc.sum(pc.equal(captions, "")).as_py() or 0,
        schema.REPLACED: pc.sum(pc.match_substring(captions, REPLACED)).as_py() or 0,
    }
    return {status: count for status, count in counts.items() if count}


def to_images(table: pa.Table, part: int, config: IngestConfig, num_threads: int = 1) -> pa.Table:
    """Returns schema.IMAGES, one row per row of the source; bytes are unchanged, or null if they cannot be decoded."""
    found = find_columns(table.schema, config)
    assert found.image, "a source of URLs has no images"
    cells = image_cells(table[found.image], config.source)
    images = [cell.data for cell in cells]
    look = partial(_look_at, config)
    if num_threads <= 1:  # a pool of one thread is three times slower for small images
        facts = [look(data) for data in images]
    else:
        with ThreadPoolExecutor(num_threads) as pool:
            facts = list(pool.map(look, images))
    facts = [
        fact if cell.problem is None else replace(fact, error=cell.problem)
        for fact, cell in zip(facts, cells, strict=True)
    ]
    columns = pa.Table.from_pylist(
        [asdict(fact) for fact in facts],
        schema=pa.schema(
            [schema.IMAGES.field(name) for name in ("width", "height", "sha256", "phash", "status", "error")]
        ),
    )
    columns = columns.append_column("pair_id", pa.array(pair_ids(part, len(table))))
    columns = columns.append_column("caption", _captions(table, found.caption))
    kept = [data if fact.status == schema.OK else None for data, fact in zip(images, facts, strict=True)]
    columns = columns.append_column("image", pa.array(kept, pa.binary()))
    columns = columns.append_column("original_width", columns["width"])
    columns = columns.append_column("original_height", columns["height"])
    return schema.conform(columns, schema.IMAGES)


def _urls(table: pa.Table, column: str) -> pa.ChunkedArray | pa.Array:
    if not column:
        return pa.nulls(len(table), pa.string())
    urls = pc.utf8_trim_whitespace(table[column].cast(pa.string()))
    return pc.if_else(pc.equal(urls, ""), pa.scalar(None, pa.string()), urls)


def _captions(table: pa.Table, column: str) -> pa.ChunkedArray | pa.Array:
    if not column:
        return pa.array([""] * len(table), pa.string())
    captions = table[column]
    if is_list(captions.type):
        empty = pc.equal(pc.fill_null(pc.list_value_length(captions), 0), 0)
        captions = pc.list_element(pc.if_else(empty, pa.scalar([""], captions.type), captions), 0)
    return pc.fill_null(captions.cast(pa.string()), "")


def _look_at(config: IngestConfig, data: bytes | None) -> ImageFacts:
    try:
        return inspect(data, config.max_pixels, config.max_decode_s)
    except Exception as error:
        return ImageFacts(None, None, None, None, schema.INTERNAL_ERROR, unforeseen(error))
