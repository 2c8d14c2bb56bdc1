"""Reads the cells of a column of images, in every form in which tables hold them.

A cell is encoded bytes, Hugging Face's struct {bytes, path} (the path counts where the bytes are null), or a list that
holds one image. A path names a file in the folder of the table or below it; one that leads elsewhere is not read. A
cell without an image has a sentence that says why.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from react_ray.pairs.formats.beside import READ_THREADS, path_below, read_below
from react_ray.pairs.formats.suffixes import MAX_IMAGE_BYTES
from react_ray.storage import Storage, is_local, open_storage

NO_BYTES = "no bytes"


class ImageCell(NamedTuple):
    """problem: why there are no bytes; None if there are some."""

    data: bytes | None
    problem: str | None = None


def holds_bytes(kind: pa.DataType) -> bool:
    """True for columns that can hold the bytes of images: binary, a struct with them, or lists of one of the two."""
    if _is_list(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and (_is_binary(kind.field(at).type) or pa.types.is_null(kind.field(at).type))
    return _is_binary(kind)


def names_files(kind: pa.DataType) -> bool:
    """True for columns that `holds_bytes`, but may have paths of files instead."""
    return holds_bytes(kind) and (_is_list(kind) or not _is_binary(kind)) and "path" in str(kind)


def resolve(column: pa.ChunkedArray, table_uri: str) -> pa.ChunkedArray:
    """Returns a column of bytes as it is, and any other as structs {bytes, problem}, its files read."""
    if _is_binary(column.type):
        return column
    found = image_cells(column, table_uri)
    data = pa.array([cell.data for cell in found], pa.large_binary())
    problem = pa.array([cell.problem for cell in found], pa.string())
    return pa.chunked_array([pa.StructArray.from_arrays([data, problem], ["bytes", "problem"])])


def image_cells(column: pa.ChunkedArray, table_uri: str) -> list[ImageCell]:
    """Returns one cell per row. table_uri: of the file that holds the column."""
    if _is_binary(column.type):
        return [ImageCell(data, None if data else NO_BYTES) for data in column.to_pylist()]
    if pa.types.is_struct(column.type) and column.type.get_field_index("problem") >= 0:
        data, problem = (pc.struct_field(column, name).to_pylist() for name in ("bytes", "problem"))
        return [ImageCell(*cell) for cell in zip(data, problem, strict=True)]
    folder = open_storage(table_uri.rpartition("/")[0] or "/")
    cells = column.to_pylist()
    if is_local(folder.uri):
        return [_read(folder, cell) for cell in cells]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        return list(pool.map(lambda cell: _read(folder, cell), cells))


def _read(folder: Storage, cell: Any) -> ImageCell:
    if isinstance(cell, list):
        cell = [one for one in cell if one is not None]
        if len(cell) > 1:
            return ImageCell(None, f"{len(cell)} images in one cell; give each image a row of its own")
        return _read(folder, cell[0]) if cell else ImageCell(None, NO_BYTES)
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path") or None
    if not isinstance(cell, str):
        return ImageCell(cell or None, None if cell else NO_BYTES)
    if "://" in cell and not cell.startswith(("file://", "s3://")):
        return ImageCell(None, f"{_shown(cell)} is a URL, not a file; name its column with ingest.url_column")
    name = cell.removeprefix("file://")
    name = name.removeprefix(f"{folder.uri.rstrip('/')}/")  # an absolute path may lead below the folder, too
    if path_below(name) in ("", "."):
        return ImageCell(None, f"{_shown(cell)} does not lie below the folder of the table")
    data = read_below(folder, name)
    if data is None:
        return ImageCell(
            None, f"no file {_shown(cell)} of at most {MAX_IMAGE_BYTES >> 20} MiB lies below the folder of the table"
        )
    return ImageCell(data or None, None if data else NO_BYTES)


def _shown(path: str) -> str:
    return repr(path if len(path) <= 100 else f"{path[:97]}...")


def _is_binary(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)
