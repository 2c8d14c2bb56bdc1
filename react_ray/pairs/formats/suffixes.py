"""Tells what a file or a member of a tar holds: by its suffix, or by its first bytes where the suffix does not say.

A suffix is written in lower case and without its dot. Images are those that image.py decodes.
"""

from __future__ import annotations

# Pillow's suffixes of the formats in image.py, and those that browsers and WebDataset add to them.
JPEG_SUFFIXES = ("jpg", "jpeg", "jpe", "jfif", "jif", "jfi", "pjpeg", "pjpg", "pjp", "mpo")
IMAGE_SUFFIXES = frozenset(
    (*JPEG_SUFFIXES, "png", "apng", "webp", "gif", "avif", "avifs", "bmp", "dib", "tif", "tiff", "ico")
)
CAPTION_SUFFIXES = ("txt", "caption", "text", "cap")  # the first that is there is the caption
CLASS_SUFFIX = "cls"  # of a label, which is the caption if there is no other
JSON_SUFFIX = "json"
CAPTION_KEYS = ("caption", "TEXT", "text")  # of a JSON object; the first that is not empty is the caption
OTHER_IMAGES = frozenset(["heic", "heif", "jxl", "jp2", "j2k", "svg", "psd", "raw", "dng", "cr2", "nef", "arw"])

MAX_IMAGE_BYTES = 256 << 20  # 50 million pixels of 32 bits are 200 MB
MAX_TEXT_BYTES = 16 << 20
SIGNATURE_BYTES = 32
SNIFFED = 20  # files or members of an unknown suffix that are looked at, before the suffix counts as that of no image
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\1\0")
BINARY = (
    *SIGNATURES,
    b"PAR1",
    b"ARROW1",
    b"PK\3\4",
    b"\x1f\x8b",
    b"\x93NUMPY",
    b"\x28\xb5\x2f\xfd",
    b"BZh",
    b"\xfd7zXZ",
)
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def suffix_of(path: str) -> str:
    """Returns what follows the last dot of the file's name, or "" if there is none."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""


def is_image(path: str) -> bool:
    return suffix_of(path) in IMAGE_SUFFIXES


def is_visible(path: str) -> bool:
    """Returns False for what systems leave, such as .DS_Store, _SUCCESS and __MACOSX/; cameras write _DSC1.jpg."""
    parts = path.split("/")
    if any(part.startswith(".") for part in parts) or "__MACOSX" in parts:
        return False
    return is_image(path) or not any(part.startswith("_") for part in parts)


def holds_image(head: bytes) -> bool:
    """Tells from the first SIGNATURE_BYTES of a file whether it is an image that image.py decodes."""
    if head.startswith(SIGNATURES):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    if head[4:8] == b"ftyp":
        return b"avif" in head[8:32] or b"avis" in head[8:32]
    return head[:2] == b"BM" and head[6:10] == b"\0\0\0\0"  # reserved bytes of BMP: a text may begin with BM too


def holds_text(head: bytes) -> bool:
    """Tells from the first bytes of a file whether it can be a text; UTF-16 has NULs, in every second place."""
    if head.startswith(BINARY) or holds_image(head):
        return False
    return not head.count(0) or head.startswith((b"\xff\xfe", b"\xfe\xff")) or not (any(head[::2]) and any(head[1::2]))


def text_of(data: bytes) -> str:
    """Decodes the text of one caption: UTF-8, or what its byte order mark says."""
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    return data.decode(encoding, "replace")
