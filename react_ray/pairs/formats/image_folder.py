"""Reads a folder of images, one row per image; its caption is in a file beside it, or else is the name of its folder.

The caption of `1.jpg` is in `1.txt` or `1.jpg.txt` (also .caption, .text or .cap, in any case), or in `1.json` under
`caption`, `TEXT` or `text`. A file is an image by its suffix, or by its first bytes if its suffix is unknown. File
names are part of the plan, so files that are added later shift no row; up to a million images are practical, and more
should be packed into tars.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.pairs.formats.beside import head_of, printable, read_all
from react_ray.pairs.formats.chunk import Chunk
from react_ray.pairs.formats.json_rows import parse_object
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.suffixes import (
    CAPTION_SUFFIXES,
    JSON_SUFFIX,
    MAX_IMAGE_BYTES,
    OTHER_FILES,
    OTHER_IMAGES,
    captions_in,
    find_images,
    is_image,
    is_visible,
    suffix_of,
    text_of,
)
from react_ray.storage import open_storage
from react_ray.uri import join, matches

TEXTS = pa.list_(pa.string())
CAPTION_FILES = (*CAPTION_SUFFIXES, JSON_SUFFIX)  # of one image, best first
TEXT_FILES = (*CAPTION_FILES, "csv", "tsv", "jsonl")
ABOUT = ("readme", "license")  # how texts begin their names that hold no captions
BLANK_BYTES = 4  # that a file without a caption may have: a line end, or a byte order mark


class Found(NamedTuple):
    """The visible files of a folder, by their paths below it."""

    sizes: dict[str, int]
    wanted: list[str]  # that match the pattern
    by_content: set[str]  # images whose names do not say so
    names: list[str]  # of all images


@dataclass(frozen=True)
class ImageFiles:
    pattern: str = ""  # a glob below the folder
    encoding: str = ""  # of captions and JSON; that the recipe names
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        sizes, wanted, by_content, names = find_files(uri, self.pattern)
        captions = _captions_beside(uri, names, sizes)
        if not any("/" in name or name in captions for name in names):
            raise ConfigError(
                f"ingest.source: {uri} has images and no captions; add a .txt of the same name beside each, "
                "or a metadata.csv with the columns file_name and caption"
            )
        if not captions:
            _check_folder_names(uri, names, wanted)
        _count(sizes, wanted, {*names, *captions.values()}, by_content, seen)
        lists = any(suffix_of(path) == JSON_SUFFIX for path in captions.values())
        columns = [("file_name", pa.string()), ("image", pa.binary()), ("caption", TEXTS if lists else pa.string())]
        return pa.schema(columns), chunks_of(uri, names, sizes, captions, row_start, rows_per_part, seen)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        folder = open_storage(uri)
        names = [name for chunk in chunks for name in chunk.names]
        if chunks[0].beside:
            files = [name for chunk in chunks for name in chunk.beside]
            texts = zip(files, read_all(folder, files), strict=True)
            captions = [_caption(name, data, self.encoding) for name, data in texts]
        else:
            captions = [[printable(posixpath.basename(posixpath.dirname(name)))] for name in names]
        if not pa.types.is_list(columns.field("caption").type):
            captions = [some[0] if some else None for some in captions]  # type: ignore[misc]
        made = {
            "file_name": [printable(name) for name in names],
            "image": pa.array(read_all(folder, names), pa.binary()),
            "caption": captions,
        }
        return pa.table(made, schema=pa.schema([columns.field(name) for name in made]))


def find_files(uri: str, pattern: str = "") -> Found:
    """Lists a folder. pattern: a glob below it, which images match; captions may lie elsewhere."""
    sizes = {path: size for path, size in open_storage(uri).files()[0].items() if is_visible(path)}
    wanted = [path for path in sizes if not pattern or matches(path, pattern)]
    unknown = (path for path in wanted if suffix_of(path) not in (*CAPTION_FILES, *OTHER_FILES, *OTHER_IMAGES))
    by_content = find_images((path for path in unknown if not is_image(path)), lambda path: head_of(join(uri, path)))
    return Found(sizes, wanted, by_content, [path for path in wanted if is_image(path) or path in by_content])


def _captions_beside(uri: str, names: list[str], sizes: dict[str, int]) -> dict[str, str]:
    """Returns the file of each image's caption, if there is one: that of its whole name before that of its stem, and
    one with a text before a blank one.
    """
    found: dict[str, dict[str, str]] = {}
    for path in sizes:
        if (suffix := suffix_of(path)) in CAPTION_FILES:
            found.setdefault(path[: -len(suffix) - 1], {}).setdefault(suffix, path)
    captions = {}
    for name in names:
        some = found.get(name) or found.get(_stem(name)) or {}
        files = [some[suffix] for suffix in CAPTION_FILES if suffix in some]
        while len(files) > 1 and sizes[files[0]] <= BLANK_BYTES and _is_blank(join(uri, files[0])):
            files.pop(0)
        if files:
            captions[name] = files[0]
    return captions


def _check_folder_names(uri: str, names: list[str], wanted: list[str]) -> None:
    """Raises ConfigError if one folder's name would be the caption of all images, though a file of texts lies
    outside of it."""
    folders = {posixpath.dirname(name) for name in names}
    texts = [path for path in wanted if suffix_of(path) in TEXT_FILES and posixpath.dirname(path) not in folders]
    texts = [path for path in texts if not posixpath.basename(path).lower().startswith(ABOUT)]
    if len(folders) == 1 and texts:
        raise ConfigError(
            f"ingest.source: all images of {uri} would have the name of their folder {folders.pop()!r} as caption, and "
            f"{printable(texts[0])} would not be read; if it holds the captions, write them as metadata.csv with the "
            "columns file_name and caption, otherwise take it away"
        )


def _is_blank(uri: str) -> bool:
    return not text_of(head_of(uri)).strip()


def _count(sizes: dict[str, int], wanted: list[str], used: set[str], by_content: set[str], seen: Seen) -> None:
    for path in wanted:
        if path in by_content:
            seen.note(f"images whose names do not say so are told by their first bytes, such as {printable(path)}")
            break
    for path in wanted:
        if path not in used:
            undecoded = suffix_of(path) in OTHER_IMAGES
            reason = "images of a kind that is not decoded" if undecoded else "files that are no image and no caption"
            seen.pass_over(reason, printable(path))


def chunks_of(
    uri: str,
    names: list[str],
    sizes: dict[str, int],
    captions: dict[str, str],
    row_start: int,
    rows_per_part: int,
    seen: Seen,
) -> Iterator[Chunk]:
    at = 0
    while at < len(names):
        some = names[at : at + rows_per_part - (row_start + at) % rows_per_part]
        for name in some:
            if not sizes[name]:
                seen.bad_row("image files without bytes", printable(name))
            elif sizes[name] > MAX_IMAGE_BYTES:
                seen.bad_row(f"image files of more than {MAX_IMAGE_BYTES:,} bytes", printable(name))
        beside = tuple(captions.get(name, "") for name in some) if captions else ()
        num_bytes = sum(sizes[name] for name in some)
        yield Chunk(uri, row_start + at, len(some), num_bytes, 0, tuple(some), beside=beside)
        at += len(some)


def _stem(name: str) -> str:
    suffix = suffix_of(name)
    return name[: -len(suffix) - 1] if suffix else name


def _caption(name: str, data: bytes | None, encoding: str) -> list[str] | None:
    if data is None:
        return None
    text = text_of(data, encoding)
    if suffix_of(name) != JSON_SUFFIX:
        return [text.strip()]
    return captions_in(parse_object(text)) or None
