"""Tells evaluation sets apart by what they hold, so that a set that was replaced in its place is noticed.

The digest covers the class of each row, the names and sizes of the files, and their bytes: all of a small set, and
blocks that are spread over a large one. Times of files do not count: a copy is the same set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from react_ray.storage import list_files, versions
from react_ray.uri import is_local, split_glob

BLOCK_BYTES = 1 << 16
NUM_BLOCKS = 512  # sets of at most 32 MiB are read whole


def set_digest(source: str, labels: pa.Table, num_blocks: int = NUM_BLOCKS) -> str:
    """Returns 16 hex digits. labels: columns task and label of all rows, as names of classes.

    num_blocks: of BLOCK_BYTES, the most that are read. S3 keeps a digest of each object, so nothing is read from there.
    """
    found = hashlib.sha256()
    for name in ("task", "label"):
        found.update("\0".join(map(str, labels[name].to_pylist())).encode())
    if is_local(source):
        for piece in _of_files(split_glob(source)[0], list_files(source), num_blocks):
            found.update(piece)
    else:
        found.update(repr(sorted(versions(source).items())).encode())
    return found.hexdigest()[:16]


def _of_files(root: str, paths: list[str], num_blocks: int) -> Iterator[bytes]:
    """Yields names and sizes of the files, then their bytes, or blocks at even distances over all of them."""
    files = [(path, Path(path).stat().st_size) for path in paths if not Path(path).name.startswith(".")]
    yield repr([(path.removeprefix(root), size) for path, size in files]).encode()
    total = sum(size for _, size in files)
    if total <= num_blocks * BLOCK_BYTES:
        yield from (Path(path).read_bytes() for path, _ in files)
        return
    begin, place = 0, 0  # of the file, and of the next block, counted over all files
    for path, size in files:
        if place < begin + size:
            with open(path, "rb") as file:
                while place < begin + size:
                    file.seek(place - begin)
                    yield file.read(BLOCK_BYTES)
                    place += total // num_blocks
        begin += size
