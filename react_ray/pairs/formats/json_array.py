"""Finds the elements of a JSON array in a file of any length, of which it holds a window."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from react_ray.errors import StorageError
from react_ray.pairs.formats.reading import reason_of
from react_ray.pairs.formats.spans import BOM, open_bytes

READ_BYTES = 1 << 20
MAX_OBJECT_BYTES = 64 << 20
BLANK = re.compile(r"[ \t\r\n]*")


def is_array(uri: str, encoding: str = "") -> bool:
    """Returns True for `[{...}, ...]`, False for one object per line."""
    with open_bytes(uri, encoding) as file:
        return file.read(READ_BYTES).removeprefix(BOM).lstrip().startswith(b"[")


def elements(uri: str, encoding: str) -> Iterator[tuple[Any, int, int]]:
    """Yields the elements of an array, their first byte and the byte after their last.

    They are read as Latin-1: each byte is a character, and the structure is the same.
    """
    decode = json.JSONDecoder(strict=False).raw_decode
    with open_bytes(uri, encoding) as file:
        window = _Window(file)
        window.skip("[")
        if window.next() == "]":
            return
        while True:
            window.next()
            while True:
                try:
                    value, end = decode(window.text, window.at)
                    if end < len(window.text) or not window.more():  # a number that ends with the text may go on
                        break
                except json.JSONDecodeError as error:
                    if len(window.text) - window.at > MAX_OBJECT_BYTES or not window.more():
                        raise _broken(uri, window, str(error)) from error
                except (ValueError, RecursionError) as error:  # more text does not help
                    raise _broken(uri, window, reason_of(error)) from error
            yield value, window.offset + window.at, window.offset + end
            window.at = end
            if window.next() == "]":
                return
            if not window.skip(","):
                raise _broken(uri, window, "neither a comma nor the end of the array")


class _Window:
    """A window of a file as text, which begins at byte `offset` of the file; everything before `at` has been parsed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.text, self.offset, self.at = file, file.read(READ_BYTES).decode("latin-1"), 0, 0
        self.at = 3 if self.text.startswith(BOM.decode("latin-1")) else 0

    def more(self) -> bool:
        """Reads on, and drops what has been parsed; False at the end of the file."""
        # The window doubles, so that an object of n bytes is parsed log n times.
        data = self.file.read(max(READ_BYTES, len(self.text) - self.at))
        if data:
            self.text, self.offset, self.at = self.text[self.at :] + data.decode("latin-1"), self.offset + self.at, 0
        return bool(data)

    def next(self) -> str:
        """Moves to the next character that is not blank and returns it, or "" at the end."""
        while True:
            blank = BLANK.match(self.text, self.at)
            assert blank is not None
            self.at = blank.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def skip(self, character: str) -> bool:
        found = self.next() == character
        self.at += found
        return found


def _broken(uri: str, window: _Window, why: str) -> StorageError:
    return StorageError(
        f"cannot read {uri}: no JSON at byte {window.offset + window.at}: {why}; "
        "correct it, or write one object a line (.jsonl)"
    )
