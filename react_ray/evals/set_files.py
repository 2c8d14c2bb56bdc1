"""Opens the files of an evaluation set with the readers of sources (pairs/formats): Parquet, Arrow, tars, folders of
classes, and tables (csv, tsv, jsonl) that name image files beside them.

SetFiles is planned once and read anywhere; it is picklable. Next: labelled.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import PurePosixPath

import pyarrow as pa

from react_ray.errors import ConfigError, ReactRayError
from react_ray.evals.class_folders import ClassFolders
from react_ray.pairs.class_label import class_label_names
from react_ray.pairs.column_types import conform, plain_schema
from react_ray.pairs.columns import IMAGE_NAMES
from react_ray.pairs.formats.chunk import Chunk, Format, covering
from react_ray.pairs.formats.detect import detect
from react_ray.pairs.formats.folder_table import FILE_COLUMNS, FolderTable, folder_table
from react_ray.pairs.formats.image_folder import ImageFiles
from react_ray.pairs.formats.reading import reading
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.suffixes import CLASS_SUFFIX
from react_ray.pairs.formats.tar import Tar
from react_ray.pairs.image_cells import ImageCell, holds_bytes, image_cells, resolve
from react_ray.pairs.ingest_config import IngestConfig
from react_ray.pairs.names_beside import SPLITS, NamesBeside, names_beside
from react_ray.uri import absolute, split_glob

ROWS_PER_CHUNK = 1024
USUAL_IMAGES = (*IMAGE_NAMES, "img")
USUAL_LABELS = ("label", "class", "class_name", CLASS_SUFFIX, "category", "target")
IN_TARS = (CLASS_SUFFIX, *USUAL_LABELS, "caption")  # .cls before a key of .json before .txt
TASK = "task"
FORMS = (
    "a set is Parquet, Arrow, WebDataset tars, a folder with one folder of images per class, or a csv, tsv or jsonl "
    "with the columns path and label beside its images"
)


@dataclass(frozen=True)
class SetFiles:
    """label: the column of labels, "" = none. columns: those of the first file, with plain types."""

    format: Format
    columns: pa.Schema
    chunks: tuple[Chunk, ...]
    image: str
    label: str
    names: tuple[str, ...] = ()  # of integers, as the metadata of a file tell them
    beside: NamesBeside = field(default_factory=NamesBeside)

    @property
    def num_rows(self) -> int:
        return self.chunks[-1].row_start + self.chunks[-1].num_rows if self.chunks else 0

    @property
    def has_folders(self) -> bool:
        """True if the labels are paths of folders."""
        return isinstance(self.format, ClassFolders)

    def part(self, start: int, count: int) -> SetFiles:
        """Returns what is needed to read these rows; rows keep their numbers."""
        return replace(self, chunks=tuple(covering(self.chunks, start, count)))

    def labels(self, start: int, count: int) -> pa.Table:
        """Returns columns label and, if there is one, task. Images are not kept, whatever the format."""
        names = [name for name in (self.label, TASK) if name in self.columns.names]
        count = min(count, self.num_rows - start)
        table = self._read(start, count, names) if count > 0 else pa.table({name: [] for name in names})
        return table.rename_columns(["label" if name == self.label else name for name in names])

    def images(self, start: int, count: int) -> list[ImageCell]:
        count = min(count, self.num_rows - start)
        return image_cells(self._read(start, count, [self.image])[self.image], "") if count > 0 else []

    def _read(self, start: int, count: int, names: Sequence[str]) -> pa.Table:
        wanted = pa.schema([self.columns.field(name) for name in names])
        chunks = covering(self.chunks, start, count)
        tables = []
        for uri, some in groupby(chunks, key=lambda chunk: chunk.uri):
            with reading(uri):
                table = self._columns_of(uri, list(some), wanted)
                table = conform(table, wanted, uri)
                if self.image in names:
                    at = table.column_names.index(self.image)
                    table = table.set_column(at, self.image, resolve(table[self.image], uri))
                tables.append(table)
        return pa.concat_tables(tables).slice(start - chunks[0].row_start, count)

    def _columns_of(self, uri: str, chunks: list[Chunk], wanted: pa.Schema) -> pa.Table:
        if isinstance(self.format, FolderTable) and self.image not in wanted.names:
            return self.format.table.read(uri, chunks, wanted)
        if isinstance(self.format, FolderTable | Tar):  # which need more columns to make one
            wanted = pa.schema([one for one in self.columns if one.name != self.image or one.name in wanted.names])
        return self.format.read(uri, chunks, wanted)


def open_files(source: str, whose: str, needs_labels: bool = True) -> SetFiles:
    """Plans the files of a set. ConfigError if they are of no form that is read, or have no images.

    whose: the field of the recipe that names the set, for messages.
    """
    try:
        return _open(source, whose, needs_labels)
    except ReactRayError as error:
        said = str(error).removeprefix("ingest.source: ").replace("ingest.source", whose)
        said = said if said.startswith(whose) else f"{whose}: {said}"
        raise ConfigError(said if isinstance(error, ConfigError) else f"{said}; {FORMS}") from error


def _open(source: str, whose: str, needs_labels: bool) -> SetFiles:
    format, uris = _format(source, needs_labels)
    root, pattern = split_glob(source)
    if needs_labels and not pattern:
        _check_splits(root, uris)
    is_file = uris == [absolute(source)] and not isinstance(format, ClassFolders)
    chunks: list[Chunk] = []
    found: dict[str, pa.Schema] = {}
    for uri in uris:
        with reading(uri):
            start = chunks[-1].row_start + chunks[-1].num_rows if chunks else 0
            columns, in_file = format.plan(uri, start, ROWS_PER_CHUNK, Seen())
            if some := list(in_file):
                chunks += some
                found[uri] = columns
    if not found:
        raise ConfigError(f"{source} has no rows; name a set of labelled images")
    first = next(iter(found))
    columns = plain_schema(found[first], first)
    usual = IN_TARS if isinstance(format, Tar) else USUAL_LABELS
    label = next((name for name in usual if name in columns.names), "")
    image = image_column(columns, f"{whose}: {source}")
    for uri, others in found.items() if format.every_column else ():
        if missing := [name for name in (image, label, TASK) if name in columns.names and name not in others.names]:
            raise ConfigError(f"{uri} lacks the column {missing[0]!r} of {first}; name files that all have it")
    names = tuple(class_label_names(found[first], label))
    return SetFiles(
        format, columns, tuple(chunks), image, label, names, names_beside(root.rpartition("/")[0] if is_file else root)
    )


def _check_splits(root: str, uris: Sequence[str]) -> None:
    """ConfigError if files of several splits lie below a folder: in folders of their names, as CLIP_benchmark has them,
    or named by them, as Hugging Face has them (`data/test-00000-of-00002.parquet`)."""
    found: dict[str, str] = {}  # split -> what names it alone
    for uri in uris:
        *folders, file = uri.removeprefix(f"{root}/").split("/")
        stem = re.split(r"[-.]", file, maxsplit=1)[0]
        below = next((place for place, name in enumerate(folders) if name.casefold() in SPLITS), None)
        if below is not None:
            found.setdefault(folders[below].casefold(), "/".join((root, *folders[: below + 1])))
        elif stem.casefold() in SPLITS:
            found.setdefault(stem.casefold(), "/".join((root, *folders, f"{stem}*{PurePosixPath(file).suffix}")))
        else:
            return
    if len(found) > 1:
        one = found.get("test", found[max(found)])
        raise ConfigError(f"{root} has the splits {', '.join(sorted(found))}; name the one to score on, such as {one}")


def _format(source: str, needs_labels: bool) -> tuple[Format, list[str]]:
    format, uris = detect(IngestConfig(source=source), Seen())
    if isinstance(format, ImageFiles):
        return ClassFolders(format.pattern, needs_labels), uris
    if isinstance(format, Tar):
        return replace(format, caption=CLASS_SUFFIX, names=NamesBeside()), uris
    with reading(uris[0]):
        columns = format.plan(uris[0], 0, 1, Seen())[0]
        if not any(holds_bytes(one.type) for one in columns) and set(FILE_COLUMNS) & set(columns.names):
            return folder_table(format, uris[0]), uris
    return format, uris


def image_column(columns: pa.Schema, whose: str) -> str:
    """Returns the column of images: one of the usual names, or else the only column that can hold images."""
    able = [field.name for field in columns if holds_bytes(field.type)]
    usual = [name for name in USUAL_IMAGES if name in able]
    if usual or len(able) == 1:
        return (usual or able)[0]
    raise ConfigError(
        f"{whose} has no column `image` of encoded images (binary, or a struct with `bytes`), only "
        f"{', '.join(f'{field.name} ({field.type})' for field in columns)}; name another file, or rename the "
        "column to image"
    )
