"""Reads some rows of a two-dimensional array in a .npy file or in a member of an .npz; never unpickles anything."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import IO, BinaryIO

import numpy as np

from react_ray.errors import StorageError
from react_ray.storage import open_stream, read_range

ZIP_HEADER_BYTES = 30  # of a member, before its name
COMPRESSED = -1


@dataclass(frozen=True)
class ArrayFile:
    """Where the rows of one array are."""

    uri: str
    member: str  # of an .npz, "" = the file is the array
    num_rows: int
    dim: int
    dtype: str
    start: int  # byte offset of the first row, or COMPRESSED

    def read(self, first: int, num_rows: int) -> np.ndarray:
        """Returns [num_rows, dim] in the type of the file."""
        row_bytes = self.dim * np.dtype(self.dtype).itemsize
        if self.start == COMPRESSED:  # it can only be read from its beginning
            with open_stream(self.uri) as file, zipfile.ZipFile(file) as archive, archive.open(self.member) as member:
                _header(member, self.uri)
                member.seek(first * row_bytes, 1)
                data = member.read(num_rows * row_bytes)
        else:
            data = read_range(self.uri, self.start + first * row_bytes, num_rows * row_bytes)
        return np.frombuffer(data, self.dtype).reshape(num_rows, self.dim)


def open_npy(uri: str) -> ArrayFile:
    """Raises StorageError if the file is no array of vectors, or ends before its last row."""
    with open_stream(uri) as file:
        num_rows, dim, dtype = _header(file, uri)
        start = file.tell()
        found = file.seek(0, 2) - start
    _check_length(uri, found, num_rows * dim * np.dtype(dtype).itemsize)
    return ArrayFile(uri, "", num_rows, dim, dtype, start)


def open_npz(uri: str) -> dict[str, ArrayFile]:
    """Returns the two-dimensional arrays of floats, by name without `.npy`."""
    arrays = {}
    with open_stream(uri) as file, _archive(file, uri) as archive:
        for info in archive.infolist():
            with archive.open(info) as member:
                try:
                    num_rows, dim, dtype = _header(member, uri)
                except StorageError:
                    continue  # it may hold other things than vectors
                header_bytes = member.tell()
            _check_length(uri, info.file_size - header_bytes, num_rows * dim * np.dtype(dtype).itemsize)
            start = COMPRESSED
            if info.compress_type == zipfile.ZIP_STORED:
                file.seek(info.header_offset + ZIP_HEADER_BYTES - 4)
                lengths = np.frombuffer(file.read(4), "<u2")
                start = info.header_offset + ZIP_HEADER_BYTES + int(lengths.sum()) + header_bytes
            name = info.filename.removesuffix(".npy")
            arrays[name] = ArrayFile(uri, info.filename, num_rows, dim, dtype, start)
    return arrays


def _archive(file: BinaryIO, uri: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise StorageError(
            f"cannot read {uri}: no .npz file ({error}); it is cut off or something else, write it again"
        ) from error


def _header(file: IO[bytes], uri: str) -> tuple[int, int, str]:
    """Reads the header of a .npy: rows, dimensions and dtype."""
    problem = "it is no .npy file"
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)  # type: ignore[arg-type]
    except ValueError as error:
        problem = str(error)
    else:
        if len(shape) == 2 and dtype.kind == "f" and not is_fortran:
            return shape[0], shape[1], dtype.str
        problem = f"it holds {dtype} {list(shape)}{' in Fortran order' if is_fortran else ''}"
    raise StorageError(f"cannot read {uri}: {problem}; vectors are floats [rows, dimensions] in C order, write it so")


def _check_length(uri: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise StorageError(
            f"cannot read {uri}: {found} bytes where its header says {wanted}; it is cut off, write it again"
        )
