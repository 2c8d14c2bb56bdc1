"""Reads some rows of a two-dimensional array in a .npy file or in a member of an .npz; never unpickles anything."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np

from react_ray.errors import ReactRayError, StorageError
from react_ray.storage import open_stream, read_range

ZIP_HEADER_BYTES = 30  # of a member, before its name
COMPRESSED = -1
MAX_DIM = 16_384  # a part of 2,048 rows has 128 MB of float32 then
MAX_REASON = 200  # characters: numpy quotes the whole header
MAX_MEMBERS = 1000  # of an .npz; each is opened to read its header


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
        wanted = num_rows * row_bytes
        if self.start == COMPRESSED:  # it can only be read from its beginning
            opened = _opened(self.uri, self.member)
            with (
                open_stream(self.uri) as file,
                opened,
                zipfile.ZipFile(file) as zipped,
                zipped.open(self.member) as member,
            ):
                _header(member, self.uri)
                member.seek(first * row_bytes, 1)
                data = member.read(wanted)
            _check_length(self.uri, len(data), wanted)
        else:
            data = read_range(self.uri, self.start + first * row_bytes, wanted)
        return np.frombuffer(data, self.dtype).reshape(num_rows, self.dim)


def open_npy(uri: str) -> ArrayFile:
    """Raises StorageError if the file is no array of vectors, or ends before its last row."""
    with open_stream(uri) as file:
        num_rows, dim, dtype = _header(file, uri)
        start = file.tell()
        found = file.seek(0, 2) - start
    _check_length(uri, found, num_rows * dim * np.dtype(dtype).itemsize)
    return ArrayFile(uri, "", num_rows, dim, dtype, start)


def open_npz(uri: str) -> tuple[dict[str, ArrayFile], dict[str, StorageError]]:
    """Returns the two-dimensional arrays of floats, by name without `.npy`, and why each other member is none."""
    arrays, others = {}, {}
    with open_stream(uri) as file, _opened(uri, ""), zipfile.ZipFile(file) as archive:
        if len(archive.infolist()) > MAX_MEMBERS:
            raise StorageError(
                f"cannot read {uri}: {len(archive.infolist()):,} arrays, more than {MAX_MEMBERS:,} are not read; "
                "write an .npz with the arrays of one shard"
            )
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with _opened(uri, info.filename), archive.open(info) as member:
                try:
                    num_rows, dim, dtype = _header(member, uri)
                except StorageError as error:
                    others[name] = error
                    continue
                header_bytes = member.tell()
            _check_length(uri, info.file_size - header_bytes, num_rows * dim * np.dtype(dtype).itemsize)
            start = COMPRESSED
            if info.compress_type == zipfile.ZIP_STORED:
                file.seek(info.header_offset + ZIP_HEADER_BYTES - 4)
                lengths = np.frombuffer(file.read(4), "<u2")
                start = info.header_offset + ZIP_HEADER_BYTES + int(lengths.sum()) + header_bytes
            arrays[name] = ArrayFile(uri, info.filename, num_rows, dim, dtype, start)
    return arrays, others


@contextmanager
def _opened(uri: str, member: str) -> Iterator[None]:
    """Converts whatever zipfile and its decompressors raise: RuntimeError for a password, NotImplementedError for an
    unknown method, and errors of zlib, lzma, bz2 and struct for damage.
    """
    try:
        yield
    except ReactRayError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
        raise StorageError(
            f"cannot read {uri}: no .npz file that numpy reads ({f'{member}: ' if member else ''}{reason}); "
            "write it again with numpy.savez, without a password"
        ) from error


def _header(file: IO[bytes], uri: str) -> tuple[int, int, str]:
    """Reads the header of a .npy: rows, dimensions and dtype."""
    problem = "it is no .npy file"
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError):
        raise  # of the file, not of the array
    except Exception as error:  # of parsing its Python literal: ValueError, SyntaxError, TokenError, RecursionError
        problem = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
    else:
        fits = len(shape) == 2 and 0 < shape[1] <= MAX_DIM and shape[0] >= 0
        if fits and dtype.kind == "f" and dtype.itemsize <= 8 and not is_fortran:
            return shape[0], shape[1], dtype.str
        problem = f"it holds {dtype} {list(shape)}{' in Fortran order' if is_fortran else ''}"[:MAX_REASON]
    raise StorageError(f"cannot read {uri}: {problem}; vectors are floats [rows, dimensions] in C order, write it so")


def _check_length(uri: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise StorageError(
            f"cannot read {uri}: {found} bytes where its header says {wanted}; it is cut off, write it again"
        )
