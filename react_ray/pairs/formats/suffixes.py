"""Tells what a file or a member of a tar holds: by its suffix, or by its first bytes where the suffix does not say.

A suffix is written in lower case and without its dot. Images are those that image.py decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from react_ray.pairs.formats.spans import REPLACED, encoding_in
from react_ray.pairs.image_kind import NUM_BYTES, kind_of

# Pillow's suffixes of the formats in image.py, and those that browsers and WebDataset add to them.
JPEG_SUFFIXES = ("jpg", "jpeg", "jpe", "jfif", "jif", "jfi", "pjpeg", "pjpg", "pjp", "mpo")
IMAGE_SUFFIXES = frozenset(
    (*JPEG_SUFFIXES, "png", "apng", "webp", "gif", "avif", "avifs", "bmp", "dib", "tif", "tiff", "ico")
)
CAPTION_SUFFIXES = ("txt", "caption", "text", "cap")  # the first that is there is the caption
CLASS_SUFFIX = "cls"  # of a label, which is the caption if there is no other
JSON_SUFFIX = "json"
CAPTION_KEYS = ("caption", "TEXT", "text")  # of a JSON object; the first that is not empty is the caption
OTHER_FILES = frozenset(("csv", "tsv", "jsonl", "ndjson", "parquet", "pq", "arrow", "tar", "gz", "tgz", "npy", "npz"))
OTHER_IMAGES = frozenset(["heic", "heif", "jxl", "jp2", "j2k", "svg", "psd", "raw", "dng", "cr2", "nef", "arw"])

MAX_IMAGE_BYTES = 256 << 20  # 50 million pixels of 32 bits are 200 MB
MAX_TEXT_BYTES = 16 << 20
SIGNATURE_BYTES = NUM_BYTES
NULS = 10  # at most one byte of so many of a text is a NUL
SNIFFED = 20  # files or members of an unknown suffix that are looked at, before the suffix counts as that of no image
BINARY = (
    b"PAR1",
    b"ARROW1",
    b"PK\3\4",
    b"\x1f\x8b",
    b"\x93NUMPY",
    b"\x28\xb5\x2f\xfd",
    b"BZh",
    b"\xfd7zXZ",
)


def suffix_of(path: str) -> str:
    """Returns what follows the last dot of the file's name, or "" if there is none."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""


def is_label(suffix: str) -> bool:
    """True for .cls and `x.cls`, which hold the label of a class."""
    return suffix.rpartition(".")[2] == CLASS_SUFFIX


def is_image(path: str) -> bool:
    return suffix_of(path) in IMAGE_SUFFIXES


def is_visible(path: str) -> bool:
    """Returns False for what systems leave, such as .DS_Store, _SUCCESS and __MACOSX/; cameras write _DSC1.jpg."""
    parts = path.split("/")
    if any(part.startswith(".") for part in parts) or "__MACOSX" in parts:
        return False
    return is_image(path) or not any(part.startswith("_") for part in parts)


def holds_image(head: bytes) -> bool:
    """Tells from the first bytes of a file whether it is an image that image.py decodes."""
    if head.startswith(b"BM"):  # which a text may begin with too; these bytes of a BMP are reserved
        return head[6:10] == b"\0\0\0\0"
    return bool(kind_of(head))


def find_images(paths: Iterable[str], head: Callable[[str], bytes]) -> set[str]:
    """Returns the paths of images by their first bytes. head: reads these of one file.

    If none of the first files of a suffix is an image, no other of this suffix is read.
    """
    by_suffix: dict[str, list[str]] = {}
    for path in paths:
        by_suffix.setdefault(suffix_of(path), []).append(path)
    found: set[str] = set()
    for some in by_suffix.values():
        first = {path for path in some[:SNIFFED] if holds_image(head(path))}
        found |= first
        if first:
            found |= {path for path in some[SNIFFED:] if holds_image(head(path))}
    return found


def holds_text(head: bytes, encoding: str = "") -> bool:
    """Tells from the first bytes of a file whether it can be a text, in which a stray NUL is tolerated. encoding: that
    the recipe names.
    """
    if head.startswith(BINARY) or holds_image(head):
        return False
    text = head.decode(encoding_in(head, encoding) or "utf-8", "replace")
    return NULS * text.count("\0") <= len(text)


def text_of(data: bytes, encoding: str = "") -> str:
    """Decodes one caption or one JSON object, which may be of another encoding than others beside it. encoding: that
    the recipe names; what a text does not have of its encoding becomes U+FFFD.
    """
    if not encoding and data.isascii() and 0 not in data:
        return data.decode()
    return data.decode(encoding_in(data, encoding) or "utf-8", "replace").removeprefix("\ufeff")


def is_replaced(data: bytes, text: str) -> bool:
    """Tells whether `text_of` made U+FFFD of something else."""
    return REPLACED in text and REPLACED.encode() not in data


def caption_in(row: dict[str, Any]) -> Any:
    """Returns the caption of a JSON object: text, or a list of texts; None if there is none."""
    return next((row[key] for key in CAPTION_KEYS if row.get(key)), None)


def captions_in(row: dict[str, Any]) -> list[str]:
    """Returns the captions of a JSON object; none if they are no texts. Half a surrogate pair is no text either."""
    said = caption_in(row)
    texts = (said if isinstance(said, list) else [said]) if is_caption(said) else []
    return [text.encode("utf-8", "replace").decode() for text in texts if text is not None]


def is_caption(value: Any) -> bool:
    """Returns True for a text, and for a list of texts in which some may be null."""
    if isinstance(value, list):
        return str in map(type, value) and all(item is None or isinstance(item, str) for item in value)
    return isinstance(value, str)
