"""Reads the headers of a tar in one pass forwards, so that a gzipped or remote tar is read once.

The standard library parses each block; its `TarFile` stops at the zero blocks between two concatenated tars, calls
itself for each extended header, and reads a header of any size into memory.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from react_ray.errors import StorageError
from react_ray.pairs.formats.seen import Seen

BLOCK = tarfile.BLOCKSIZE
MAX_HEADER_BYTES = 1 << 20  # of one extended header; a path has at most some thousand bytes
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
NO_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)


class Header(NamedTuple):
    name: str
    type: bytes
    size: int


class Member(NamedTuple):
    name: str
    type: bytes
    start: int  # first byte of its first header
    data_start: int
    num_bytes: int

    @property
    def end(self) -> int:
        return self.data_start + _padded(self.num_bytes)


class TarHeaders:
    """Iterates over the members of a tar; `content` reads the member that was drawn last.

    Raises StorageError if the file is cut off or damaged. What follows the end of the archive without being a member is
    passed over in `seen`.
    """

    def __init__(self, file: BinaryIO, uri: str, seen: Seen) -> None:
        self.file, self.uri, self.seen = file, uri, seen
        self.at = 0  # where the last read ended
        self._held = b""

    def content(self, member: Member, num_bytes: int) -> bytes:
        """Returns the first bytes of a member, at most `num_bytes`."""
        wanted = min(num_bytes, member.num_bytes)
        data = self._read(member.data_start, wanted)
        if len(data) < wanted:
            raise self._cut_off()
        return data

    def __iter__(self) -> Iterator[Member]:
        start = at = 0
        name, size = "", -1  # what extended headers say of the next member
        while block := self._block(at):
            if not block.strip(b"\0"):
                at = self._after_zeros(at)
                if at < 0:
                    return
                start, block, name, size = at, self._held, "", -1
            info = self._parse(block, at)
            data_start = at + BLOCK
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE, *PAX):
                data = self._extension(data_start, info.size)
                if info.type == tarfile.GNUTYPE_LONGNAME:
                    name = _decoded(data.partition(b"\0")[0])
                elif info.type in PAX:
                    said = self._pax(data, at)
                    name = _decoded(said[b"path"]) if b"path" in said else name
                    size = self._number(said[b"size"], at) if b"size" in said else size
                at = data_start + _padded(info.size)
                continue
            if info.type == tarfile.GNUTYPE_SPARSE:
                data_start = self._after_sparse_map(block, data_start)
            num_bytes = 0 if info.type in NO_DATA else info.size if size < 0 else size
            member = Member(name or info.name, info.type, start, data_start, num_bytes)
            yield member
            start = at = data_start + _padded(num_bytes)
            name, size = "", -1
        if at == 0:
            raise StorageError(f"cannot read {self.uri}: it is empty; write it again")
        if start != at:
            raise self._cut_off()
        self.seen.note(f"{self.uri} has no end mark of a tar, so nothing says that it is whole")

    def _read(self, start: int, num_bytes: int) -> bytes:
        if start != self.at:  # never backwards, which would unpack a .gz from its beginning
            self.file.seek(start)
        data = self.file.read(num_bytes)
        self.at = start + len(data)
        return data

    def _block(self, at: int) -> bytes:
        """Returns the block at a byte, or b"" at the end of the file."""
        block = self._read(at, BLOCK)
        if len(block) < BLOCK and (block.strip(b"\0") or self.file.seek(0, 2) < at):
            raise self._cut_off()  # one may seek behind the end of a file, and read nothing there
        return block

    def _after_zeros(self, at: int) -> int:
        """Returns where another tar begins behind zero blocks, or -1 if none does; `_held` is its first block."""
        at += BLOCK
        while (block := self._read(at, BLOCK)) and not block.strip(b"\0"):
            at += BLOCK
        first = at
        while block:
            if len(block) == BLOCK and _is_header(block):
                if at > first:
                    raise StorageError(
                        f"cannot read {self.uri}: bytes {first} to {at} are no tar, and members follow; "
                        "the file is damaged, write it again"
                    )
                self._held = block
                return at
            at += len(block)
            block = self._read(at, BLOCK)
        if at > first:
            self.seen.pass_over("bytes behind the end of a tar", f"{self.uri} from byte {first}", at - first)
        return -1

    def _parse(self, block: bytes, at: int) -> Header:
        try:
            header = _ordinary(block) or _any(block)
        except tarfile.HeaderError as error:
            why = "it is gzipped, name it .tar.gz" if block.startswith(b"\x1f\x8b") else "the file is damaged"
            raise StorageError(
                f"cannot read {self.uri}: no tar header at byte {at}; {why}, or write it again"
            ) from error
        if header.size < 0:
            raise StorageError(f"cannot read {self.uri}: a negative size at byte {at}; it is damaged, write it again")
        return header

    def _extension(self, start: int, num_bytes: int) -> bytes:
        if num_bytes > MAX_HEADER_BYTES:
            raise StorageError(
                f"cannot read {self.uri}: an extended header of {num_bytes:,} bytes at byte {start}, more than "
                f"{MAX_HEADER_BYTES:,} are not read; write the tar again without it"
            )
        data = self._read(start, num_bytes)
        if len(data) < num_bytes:
            raise self._cut_off()
        return data

    def _pax(self, data: bytes, at: int) -> dict[bytes, bytes]:
        """Parses records of `LENGTH KEY=VALUE\\n`, whose length counts itself."""
        said, begin = {}, 0
        while begin < len(data) and data[begin]:
            space = data.find(b" ", begin, begin + 20)
            end = begin + self._number(data[begin:space] if space > 0 else b"", at)
            key, equals, value = data[space + 1 : end - 1].partition(b"=")
            if end <= space or end > len(data) or not equals:
                raise self._bad_extension(at)
            said[key] = value
            begin = end
        return said

    def _number(self, digits: bytes, at: int) -> int:
        if not digits.isdigit() or len(digits) > 19:
            raise self._bad_extension(at)
        return int(digits)

    def _after_sparse_map(self, block: bytes, at: int) -> int:
        extended = block[482]
        while extended:
            block = self._read(at, BLOCK)
            if len(block) < BLOCK:
                raise self._cut_off()
            extended, at = block[504], at + BLOCK
        return at

    def _bad_extension(self, at: int) -> StorageError:
        return StorageError(f"cannot read {self.uri}: a damaged extended header at byte {at}; write the file again")

    def _cut_off(self) -> StorageError:
        return StorageError(f"cannot read {self.uri}: it ends within a member; it is cut off, write it again")


def _ordinary(block: bytes) -> Header | None:
    """Parses the header of a plain file three times as fast as the standard library; None if it is anything else."""
    try:
        checksum, size = int(block[148:156].rstrip(b" \0"), 8), int(block[124:136].rstrip(b" \0"), 8)
    except ValueError:
        return None
    if block[156:157] != tarfile.REGTYPE or checksum != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        return None
    name, prefix = block[:100].partition(b"\0")[0], block[345:500].partition(b"\0")[0]
    return Header(_decoded(prefix + b"/" + name if prefix else name), tarfile.REGTYPE, size)


def _any(block: bytes) -> Header:
    info = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    return Header(info.name, info.type, info.size)


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // BLOCK) * BLOCK


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _is_header(block: bytes) -> bool:
    try:
        _any(block)
    except tarfile.HeaderError:
        return False
    return True
