"""Reads the bytes of plain, gzipped and recoded files: all of them to plan a file, or a span of them to read a part.

Text that is not UTF-8 (UTF-16 from Excel, or what `ingest.encoding` names) is converted to UTF-8 before its bytes are
counted. A span of such a file, or of a .gz, is reached by unpacking everything before it. Parts are read in order, and
the file stays open between spans, so each process unpacks a file about once. No file is unpacked into memory as a
whole.
"""

from __future__ import annotations

import codecs
import gzip
import io
import threading
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import BinaryIO, cast

from react_ray.errors import StorageError
from react_ray.storage import open_stream, read_range

GZIPPED = (".gz", ".tgz")
OPEN_FILES = 2  # kept open per process: the file being read, and the next
LOCK = threading.Lock()
BOM = codecs.BOM_UTF8  # byte order mark that some editors write
BOMS = {  # the longer ones first, because UTF-16's is the beginning of UTF-32's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    BOM: "",
}
REPLACED = "\ufffd"  # stands for what an encoding does not have
NULS = "rows with NULs, which are left out"
NOT_ENCODED = "with characters that are not of the encoding (set ingest.encoding, such as cp1252)"
HEAD_BYTES = 4096  # by which an encoding is told
CR_ENDS = " with CR line ends"  # behind the encoding of a file whose lines end as on a Macintosh of 1999
RECODED_BYTES = 1 << 20  # converted at once


def open_bytes(uri: str, encoding: str = "") -> BinaryIO:
    """Opens the (unpacked, recoded) bytes at their beginning, to plan; closes a file of this name that is still open
    from before.
    """
    if not encoding and not _is_gzipped(uri):
        return open_stream(uri)
    _open_again.cache_clear()
    return _unpacked(uri, encoding)


def read_span(uri: str, start: int, length: int, encoding: str = "") -> bytes:
    """Returns a span of the (unpacked, recoded) bytes. Raises StorageError if the file ends before."""
    if not encoding and not _is_gzipped(uri):
        return read_range(uri, start, length)
    with LOCK:
        file = _open_again(uri, encoding)
        try:
            file.seek(start)
            data = file.read(length)
        except Exception:
            _open_again.cache_clear()
            raise
    if len(data) < length:
        raise StorageError(
            f"cannot read {uri}: it ends before byte {start + length}; it has changed, run the stage again"
        )
    return data


def read_lines(file: BinaryIO, uri: str, max_bytes: int) -> Iterator[bytes]:
    """Yields lines with their ends. Raises StorageError at a longer line, of which no more is read: a .gz of 1 MB may
    hold 1 GB without an end of line.
    """
    for number, line in enumerate(iter(partial(file.readline, max_bytes + 1), b""), 1):
        if len(line) > max_bytes:
            raise StorageError(
                f"cannot read {uri}: line {number} is longer than {max_bytes >> 20} MiB; "
                "is it a file of lines? write one row a line"
            )
        yield line


def decoded(line: bytes, encoding: str) -> tuple[str, bool]:
    """Returns the text of a line that was recoded from `encoding`, and whether a character of it was replaced."""
    try:
        text = line.decode()
        return text, bool(encoding) and REPLACED in text
    except UnicodeDecodeError:
        return line.decode("utf-8", "replace"), True


def encoding_of(uri: str, named: str = "") -> str:
    """Returns the encoding to recode the lines of a file from, or "" for UTF-8. CR_ENDS follows it if they end so."""
    with open_bytes(uri) as file:
        head = file.read(HEAD_BYTES)
    encoding = encoding_in(head, named)
    text = head.decode(encoding, "replace") if encoding else head.decode("latin-1")
    return (encoding or "utf-8") + CR_ENDS if "\r" in text.rstrip("\r\n") and "\n" not in text else encoding


def encoding_in(head: bytes, named: str = "") -> str:
    """Returns the encoding of a text that begins with these bytes, or "" for UTF-8.

    A byte order mark tells it, or else `named` (ingest.encoding), or else the NULs of UTF-16 without a mark.
    """
    for mark, encoding in BOMS.items():
        if head.startswith(mark):
            return encoding
    if named:
        return "" if codecs.lookup(named).name in ("utf-8", "ascii") else named
    return utf16_of(head)


def utf16_of(head: bytes) -> str:
    """Returns the byte order of UTF-16 without a mark, or "" if the first bytes of a file do not look like it.

    Whatever its language, a table has line ends, delimiters and URLs, and one half of each is a NUL; in a table of
    Chinese captions that is one byte in twenty.
    """
    enough = len(head) // 64 + min(8, len(head) // 8)
    even, odd = head[::2].count(0), head[1::2].count(0)
    for many, few, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if many > enough and few * 20 < many:
            return encoding
    return ""


def _is_gzipped(uri: str) -> bool:
    return uri.lower().endswith(GZIPPED)


@lru_cache(maxsize=OPEN_FILES)
def _open_again(uri: str, encoding: str) -> BinaryIO:
    return _unpacked(uri, encoding)


def _unpacked(uri: str, encoding: str) -> BinaryIO:
    file = open_stream(uri)
    if _is_gzipped(uri):
        file = cast(BinaryIO, gzip.GzipFile(fileobj=file))
    return cast(BinaryIO, io.BufferedReader(_Recoded(file, encoding), RECODED_BYTES)) if encoding else file


class Span(io.RawIOBase):
    """A part of a file as a file of its own, of which only what is read is fetched."""

    def __init__(self, file: BinaryIO, start: int, num_bytes: int) -> None:
        self.file, self.start, self.num_bytes, self.at = file, start, num_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.num_bytes)[whence]
        return self.at

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        self.file.seek(self.start + self.at)
        data = self.file.read(max(0, min(len(buffer), self.num_bytes - self.at)))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def close(self) -> None:
        self.file.close()
        super().close()


class _Recoded(io.RawIOBase):
    """The text of a file as UTF-8; what its encoding does not have becomes U+FFFD."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self.file, self.ready, self.at = file, b"", 0
        decoder = codecs.getincrementaldecoder(encoding.removesuffix(CR_ENDS))("replace")
        self.decoder = io.IncrementalNewlineDecoder(decoder, True) if encoding.endswith(CR_ENDS) else decoder

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while not self.ready:
            data = self.file.read(RECODED_BYTES)
            self.ready = self.decoder.decode(data, not data).encode("utf-8", "replace")
            if not data:
                break
        some = self.ready[: len(buffer)]
        buffer[: len(some)] = some
        self.ready, self.at = self.ready[len(some) :], self.at + len(some)
        return len(some)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET, "the length of recoded text is not known"
        if offset < self.at:
            self.file.seek(0)
            self.decoder.reset()
            self.ready, self.at = b"", 0
        skipped = bytearray(RECODED_BYTES)
        while self.at < offset and self.readinto(memoryview(skipped)[: offset - self.at]):  # type: ignore[arg-type]
            pass
        return self.at

    def close(self) -> None:
        self.file.close()
        super().close()
