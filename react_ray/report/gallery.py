"""Shows the pairs retrieved for each class, with their pictures inside the page.

Pictures come from the web: captions are escaped, and bytes that are not one of five image formats are left out.
"""

from __future__ import annotations

import base64
from html import escape

from react_ray.report.data import Picture, ReportData

OPEN_CLASSES = 12  # the other classes are folded away


def gallery(data: ReportData, max_bytes: int) -> str:
    """Returns HTML with at most `max_bytes` for pictures; if there are more, every class loses its worst ones first."""
    everything = [(name, [Picture(*picture) for picture in pictures]) for name, pictures in data.gallery]
    figures = [[_figure(picture) for picture in pictures] for _, pictures in everything]
    kept = within(figures, max_bytes)
    classes = [_class_row(name, figures[i][: kept[i]], len(figures[i])) for i, (name, _) in enumerate(everything)]
    html = "".join(classes[:OPEN_CLASSES])
    if len(classes) > OPEN_CLASSES:
        rest = len(classes) - OPEN_CLASSES
        html += f"<details><summary>{rest} more classes</summary>{''.join(classes[OPEN_CLASSES:])}</details>"
    credits = sorted({p.credit for i, (_, pictures) in enumerate(everything) for p in pictures[: kept[i]] if p.credit})
    if credits:
        html += f'<p class="note">Pictures by: {escape("; ".join(credits))}.</p>'
    dropped = sum(len(pictures) for _, pictures in everything) - sum(kept)
    if dropped:
        html += f'<p class="note">{dropped} pictures are left out to keep this file small.</p>'
    return html


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


def _class_row(name: str, figures: list[str], total: int) -> str:
    shown = "".join(figures) or '<p class="mute">no pictures</p>'
    count = f"{len(figures)} of {total} shown" if len(figures) < total else f"{total} shown"
    heading = f"<h3>{escape(name)}<small>{count}</small></h3>"
    return f'<section class="class">{heading}<div class="pictures">{shown}</div></section>'


def _figure(picture: Picture) -> str:
    source = data_uri(picture.data)
    if not source:
        return ""
    caption = escape(picture.caption)
    title = escape(f"{picture.caption} ({picture.credit})" if picture.credit else picture.caption)
    return (
        f'<figure title="{title}"><img src="{source}" alt="{caption}" loading="lazy" width="72" height="72">'
        f'<figcaption><span class="key">{escape(picture.key)} {picture.score:.2f}</span>'
        f'<span class="text">{caption}</span></figcaption></figure>'
    )
