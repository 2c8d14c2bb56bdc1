"""Reads WebDataset tars (.tar, .tar.gz, .tgz), as img2dataset writes and open_clip reads them, one row per sample.

Neighbouring members whose names agree up to the first dot are one sample: its image (.jpg, .png, .webp, ...), its
caption (.txt, or `caption` of .json) and the other keys of .json, read as in json_rows.py. What a sample lacks is null.
Planning visits every header once: it seeks through a local tar, and reads through a remote or gzipped one.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import BinaryIO

import pyarrow as pa

from react_ray.errors import StorageError
from react_ray.pairs.formats.chunk import Chunk, cut
from react_ray.pairs.formats.json_rows import Row, columns_of, parse_object, table_of
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.spans import open_bytes, read_span

IMAGE_KINDS = frozenset(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"))
SAMPLE = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")  # groups: folder and key; kind
FIRST_SAMPLES = 100  # samples whose .json keys become columns
OWN = pa.schema([("key", pa.string()), ("image", pa.binary()), ("caption", pa.string())])


@dataclass(frozen=True)
class Member:
    key: str
    kind: str  # the file extension: jpg, txt, json, ...
    start: int  # first byte of its header
    data_start: int
    num_bytes: int

    @property
    def end(self) -> int:
        return self.data_start + -(-self.num_bytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Tar:
    every_column: bool = False  # a .json may lack a key

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        with open_bytes(uri) as file:
            head = cut(uri, _spans(islice(_samples(file, uri), FIRST_SAMPLES)), 0, FIRST_SAMPLES)
            found = [chunk for chunk in head]
        rows = [row["json"] for chunk in found for row in _rows(chunk)]
        others = [field for field in columns_of(rows) if field.name not in OWN.names]
        return pa.schema([*OWN, *others]), _chunks(uri, row_start, rows_per_part)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        rows = [row for chunk in chunks for row in _rows(chunk)]
        own = {name: pa.array([row[name] for row in rows], OWN.field(name).type) for name in OWN.names}
        others = table_of([row["json"] for row in rows], pa.schema([f for f in columns if f.name not in OWN.names]))
        return pa.table(own | {name: others[name] for name in others.column_names})


def _chunks(uri: str, row_start: int, rows_per_part: int) -> Iterator[Chunk]:
    with open_bytes(uri) as file:
        yield from cut(uri, _spans(_samples(file, uri)), row_start, rows_per_part)


def _spans(samples: Iterator[list[Member]]) -> Iterator[tuple[int, int]]:
    return ((sample[0].start, sample[-1].end) for sample in samples)


def _samples(file: BinaryIO, uri: str) -> Iterator[list[Member]]:
    for _, members in groupby(_members(file, uri), key=lambda member: member.key):
        yield list(members)


def _members(file: BinaryIO, uri: str) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # otherwise it keeps every header
            named = SAMPLE.fullmatch(info.name)
            if info.isfile() and named:
                yield Member(named[1], named[2].lower(), info.offset, info.offset_data, info.size)
        file.seek(tar.offset)  # type: ignore[attr-defined]
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile mistakes a broken header for the end
            at: int = tar.offset  # type: ignore[attr-defined]
            raise StorageError(f"cannot read {uri}: no tar header at byte {at}; the file is damaged, write it again")


def _rows(chunk: Chunk) -> list[Row]:
    """Returns key, image, caption and json of each sample; json is an object, empty if there is none."""
    data = read_span(chunk.uri, chunk.start, chunk.num_bytes)
    return [_row(sample, data) for sample in _samples(io.BytesIO(data), chunk.uri)]


def _row(sample: list[Member], data: bytes) -> Row:
    contents: dict[str, bytes] = {}
    for member in sample:
        kind = "image" if member.kind in IMAGE_KINDS else member.kind
        contents.setdefault(kind, data[member.data_start : member.data_start + member.num_bytes])
    about = parse_object(contents.get("json", b"").decode("utf-8", "replace"))
    caption = contents["txt"].decode("utf-8", "replace") if "txt" in contents else about.get("caption")
    return {
        "key": sample[0].key,
        "image": contents.get("image"),
        "caption": caption if isinstance(caption, str) else None,
        "json": about,
    }
