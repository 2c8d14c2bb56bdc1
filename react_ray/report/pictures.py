"""Puts pictures from the web into a page: only bytes of five image formats, and as many as there is room for."""

from __future__ import annotations

import base64


def mime_type(data: bytes) -> str | None:
    """Infers the type from the first bytes; returns None for anything that a browser should not get."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    for start, kind in ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF8", "gif")):
        if data.startswith(start):
            return f"image/{kind}"
    return None


def data_uri(data: bytes | None) -> str:
    """Returns a picture as the address of an <img>; "" for bytes that a browser should not get."""
    kind = mime_type(data) if data else None
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if kind and data else ""


def within(figures: list[list[str]], max_bytes: int) -> list[int]:
    """Returns how many figures each class keeps: rank by rank over all classes until the bytes are spent.

    figures: the HTML of each class's figures, best first.
    """
    kept = [0] * len(figures)
    for rank in range(max(map(len, figures), default=0)):
        for i, of_class in enumerate(figures):
            if rank >= len(of_class):
                continue
            max_bytes -= len(of_class[rank].encode())
            if max_bytes < 0:
                return kept
            kept[i] = rank + 1
    return kept
