"""Reads a folder of images, one row per image, in the two layouts that are in use.

FolderTable reads a csv, tsv or jsonl whose rows name image files beside it: Hugging Face's metadata.csv or .jsonl in
any sub-folder, or the only such file in the folder. ImageFiles reads every image; its caption is in the .txt of the
same name, or else is the name of the image's folder. File names are part of the plan, so files that are added later
shift no row; up to a million images are practical, and more should be packed into tars.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.formats.chunk import Chunk, Format
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.suffixes import is_image, is_visible
from react_ray.storage import Storage, open_storage
from react_ray.uri import is_local, matches

FILE_COLUMNS = ("file_name", "filename", "file", "filepath", "path", "image")
READ_THREADS = 16  # for S3, where each read waits for the network
FIRST_FILES = 20  # of a table; if all of them are missing, the table is refused
COLUMNS = pa.schema([("file_name", pa.string()), ("image", pa.binary()), ("caption", pa.string())])
CAPTION = ".txt"


@dataclass(frozen=True)
class FolderTable:
    table: Format
    column: str  # of file names
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        columns, chunks = self.table.plan(uri, row_start, rows_per_part, seen)
        fields = [field.with_name(self._renamed(field.name)) for field in columns]
        return pa.schema([*fields, pa.field("image", pa.binary())]), chunks

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        names = [self.column, "image"] if self.column != "image" else ["image"]
        originals = {self._renamed(name): name for name in names}
        wanted = [field.with_name(originals.get(field.name, field.name)) for field in columns if field.name != "image"]
        table = self.table.read(uri, chunks, pa.schema(wanted))
        images = _read_all(open_storage(uri.rpartition("/")[0]), table[self.column].to_pylist())
        table = table.rename_columns([self._renamed(name) for name in table.column_names])
        return table.append_column("image", pa.array(images, pa.binary()))

    def _renamed(self, name: str) -> str:
        """Renames a column `image` of the table, because `image` is the column of bytes."""
        if name == "image":
            return "file_name" if self.column == "image" else "image_text"
        return name


@dataclass(frozen=True)
class ImageFiles:
    pattern: str = ""  # a glob below the folder
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        sizes = {path: size for path, size in open_storage(uri).sizes().items() if is_visible(path)}
        names = [path for path in sizes if is_image(path) and (not self.pattern or matches(path, self.pattern))]
        if not any("/" in name or _stem(name) + CAPTION in sizes for name in names):
            raise ConfigError(
                f"ingest.source: {uri} has images and no captions; add a .txt of the same name beside each, "
                "or a metadata.csv with the columns file_name and caption"
            )
        return COLUMNS, _chunks(uri, names, sizes, row_start, rows_per_part)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        folder = open_storage(uri)
        names = [name for chunk in chunks for name in chunk.names]
        if chunks[0].start == TEXT_BESIDE:
            texts = _read_all(folder, [_stem(name) + CAPTION for name in names])
            captions = [None if text is None else text.decode("utf-8", "replace").strip() for text in texts]
        else:
            captions = [posixpath.basename(posixpath.dirname(name)) for name in names]
        images = _read_all(folder, names)
        return pa.table(
            {"file_name": names, "image": pa.array(images, pa.binary()), "caption": captions}, schema=COLUMNS
        )


# Where ImageFiles finds the captions of a chunk.
FOLDER_NAME, TEXT_BESIDE = 0, 1


def folder_table(table: Format, uri: str) -> FolderTable:
    """Raises ConfigError if no column of the table names files, or if none of the first files exists."""
    columns, chunks = table.plan(uri, 0, FIRST_FILES, Seen())
    column = next((name for name in FILE_COLUMNS if name in columns.names), "")
    if not column:
        raise ConfigError(
            f"ingest.source: {uri} lies beside images and names none: it has {', '.join(columns.names)}; "
            "rename the column of file names to file_name"
        )
    first = next(chunks, None)
    if first is not None:
        folder = open_storage(uri.rpartition("/")[0])
        names = table.read(uri, [first], columns)[column].to_pylist()
        if not any(path and folder.exists(path) for path in map(_path, names)):
            raise ConfigError(
                f"ingest.source: {uri}: none of the first {len(names)} files of the column {column!r} is there, "
                f"such as {names[0]}; name them relative to {folder.uri}"
            )
    return FolderTable(table, column)


def _chunks(uri: str, names: list[str], sizes: dict[str, int], row_start: int, rows_per_part: int) -> Iterator[Chunk]:
    beside = TEXT_BESIDE if any(_stem(name) + CAPTION in sizes for name in names) else FOLDER_NAME
    at = 0
    while at < len(names):
        some = names[at : at + rows_per_part - (row_start + at) % rows_per_part]
        yield Chunk(uri, row_start + at, len(some), sum(sizes[name] for name in some), beside, tuple(some))
        at += len(some)


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _path(name: str | None) -> str:
    """Returns a path below the folder, or "" if `name` leads elsewhere or cannot be a path: it must not fail other
    rows.
    """
    path = posixpath.normpath(name) if name else ""
    impossible = (
        path.startswith(("/", "..")) or "\0" in path or any(len(part.encode()) > 255 for part in path.split("/"))
    )
    return "" if impossible else path


def _read_all(folder: Storage, names: Sequence[str | None]) -> list[bytes | None]:
    if is_local(folder.uri):
        return [_read(folder, name) for name in names]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        return list(pool.map(partial(_read, folder), names))


def _read(folder: Storage, name: str | None) -> bytes | None:
    """Returns None if the file does not exist; raises StorageError if it exists and cannot be read."""
    path = _path(name)
    if not path:
        return None
    try:
        return folder.read(path)
    except StorageError:
        if folder.exists(path):
            raise
        return None
