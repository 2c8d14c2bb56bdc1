"""Reads a table whose rows name image files beside it: Hugging Face's metadata.csv or .jsonl in any sub-folder, or the
only csv, tsv or jsonl in a folder of images.

Planning reads the names once more, to count the files that are not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.pairs.formats.beside import path_below, printable, read_all
from react_ray.pairs.formats.chunk import Chunk, Format
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.suffixes import MAX_IMAGE_BYTES, is_image
from react_ray.storage import open_storage

FILE_COLUMNS = ("file_name", "filename", "file", "filepath", "path", "image")
FIRST_FILES = 20  # of a table; if all of them are missing, the table is refused


@dataclass(frozen=True)
class FolderTable:
    table: Format
    column: str  # of file names
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        columns, chunks = self.table.plan(uri, row_start, rows_per_part, seen)
        fields = [field.with_name(self._renamed(field.name)) for field in columns]
        return pa.schema([*fields, pa.field("image", pa.binary())]), self._counted(uri, columns, chunks, seen)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        names = [self.column, "image"] if self.column != "image" else ["image"]
        originals = {self._renamed(name): name for name in names}
        wanted = [field.with_name(originals.get(field.name, field.name)) for field in columns if field.name != "image"]
        table = self.table.read(uri, chunks, pa.schema(wanted))
        images = read_all(open_storage(uri.rpartition("/")[0]), table[self.column].to_pylist())
        table = table.rename_columns([self._renamed(name) for name in table.column_names])
        return table.append_column("image", pa.array(images, pa.binary()))

    def _renamed(self, name: str) -> str:
        """Renames a column `image` of the table, because `image` is the column of bytes."""
        if name == "image":
            return "file_name" if self.column == "image" else "image_text"
        return name

    def _counted(self, uri: str, columns: pa.Schema, chunks: Iterator[Chunk], seen: Seen) -> Iterator[Chunk]:
        """Counts the rows without a file that can be read, and at the end the images that no row names."""
        sizes = open_storage(uri.rpartition("/")[0]).files()[0]
        left = {path for path in sizes if is_image(path)}
        only = pa.schema([columns.field(self.column)])
        for chunk in chunks:
            for name in self.table.read(uri, [chunk], only)[self.column].to_pylist():
                path = path_below(name)
                left.discard(path)
                if path not in sizes:
                    seen.bad_row("rows whose file is not there", repr(name)[:80])
                elif not 0 < sizes[path] <= MAX_IMAGE_BYTES:
                    seen.bad_row("rows whose file is empty or too large", path)
            yield chunk
        for path in sorted(left):
            seen.pass_over(f"images that {uri.rpartition('/')[2]} does not name", printable(path))


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
        if not any(path and folder.exists(path) for path in map(path_below, names)):
            raise ConfigError(
                f"ingest.source: {uri}: none of the first {len(names)} files of the column {column!r} is there, "
                f"such as {names[0]}; name them relative to {folder.uri}"
            )
    return FolderTable(table, column)
