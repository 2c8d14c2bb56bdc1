"""Reads `root/class/image.jpg`, as torchvision's ImageFolder does: the label of an image is the folder that it lies in.

A folder of splits, such as `root/train/class/...` beside `root/val/class/...`, is no set: one of them is. Folders may
be deeper: the innermost one that is a class counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.pairs.formats.beside import printable, read_all
from react_ray.pairs.formats.chunk import Chunk
from react_ray.pairs.formats.image_folder import chunks_of, find_files
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.names_beside import SPLITS
from react_ray.storage import open_storage

COLUMNS = pa.schema([("label", pa.string()), ("image", pa.binary())])


@dataclass(frozen=True)
class ClassFolders:
    pattern: str = ""  # a glob below the folder
    needs_labels: bool = True  # False where only the images count
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        found = find_files(uri, self.pattern)
        if self.needs_labels:
            self._check(uri, found.names)
        return COLUMNS, chunks_of(uri, found.names, found.sizes, {}, row_start, rows_per_part, seen)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        """label: the folders of the image below `uri`, outermost first, divided by slashes."""
        names = [name for chunk in chunks for name in chunk.names]
        made = {"label": pa.array([printable(name.rpartition("/")[0]) for name in names], pa.string())}
        if "image" in columns.names:
            made["image"] = pa.array(read_all(open_storage(uri), names), pa.binary())
        return pa.table(made)

    def _check(self, uri: str, names: list[str]) -> None:
        if not any("/" in name for name in names):
            raise ConfigError(
                f"{uri} has images without folders of classes; put the images of each class into a folder of its name, "
                "or write a csv beside them with the columns path and label"
            )
        tops = sorted({name.partition("/")[0] for name in names})
        deep = all(name.count("/") > 1 for name in names)
        if len(tops) > 1 and deep and not self.pattern and all(top.casefold() in SPLITS for top in tops):
            raise ConfigError(
                f"{uri} has the splits {', '.join(map(printable, tops))}; name the one to score on, such as "
                f"{uri}/{printable(tops[-1])}"
            )
