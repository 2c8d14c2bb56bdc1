"""Reads WebDataset tars (.tar, .tar.gz, .tgz), as img2dataset writes and open_clip reads them, one row per sample.

The members of one key are a sample, wherever they lie in the tar: its image, its caption (.txt, or `caption`, `TEXT` or
`text` of .json, which may be a list) and the other keys of .json, read as in json_rows.py. What a sample lacks is null.
`ingest.image_column` and `ingest.caption_column` may name a suffix, such as `input.jpg`. Planning reads every header,
caption and .json once: it seeks through a local tar, and reads through a remote or gzipped one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa

from react_ray.pairs.formats.chunk import Chunk
from react_ray.pairs.formats.json_rows import Row, parse_object, table_of
from react_ray.pairs.formats.samples import IMAGE, JSON, OTHER, Suffixes
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.spans import GZIPPED, Span, open_bytes, read_span
from react_ray.pairs.formats.suffixes import caption_in, captions_in, is_label, text_of
from react_ray.pairs.formats.tar_headers import FILES, TarHeaders
from react_ray.pairs.formats.tar_index import TarIndex
from react_ray.pairs.names_beside import NamesBeside
from react_ray.uri import is_local

READ_THREADS = 16  # for S3, where each read waits for the network
TEXTS = pa.list_(pa.string())


@dataclass(frozen=True)
class Tar:
    """image, caption: ingest.image_column and ingest.caption_column. `jpg;png` means .jpg, or .png if there is none."""

    image: str = ""
    caption: str = ""
    encoding: str = ""  # of captions and JSON; that the recipe names
    every_column: bool = False  # a .json may lack a key
    names: NamesBeside = field(default_factory=NamesBeside)  # of the labels in .cls

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        index = TarIndex(uri, self._images, self.caption.lower().lstrip("."), seen, self.encoding, names=self.names)
        with open_bytes(uri) as file:
            index.scan(file)
        texts = TEXTS if index.lists else pa.string()
        image, caption = self._names(index.suffixes)
        own = pa.schema([("key", pa.string()), (image, pa.binary()), (caption, texts)])
        others = [field for field in index.json_columns() if field.name not in own.names]
        return pa.schema([*own, *others]), index.chunks(row_start, rows_per_part)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        """Of a local tar that is not gzipped, no byte of an image is read unless `columns` has the image."""
        suffixes = Suffixes.decoded(self._images, chunks[0].names)
        image, caption = self._names(suffixes)
        rows = [
            row for chunk in chunks for row in _rows(chunk, suffixes, self.encoding, self.names, image in columns.names)
        ]
        captions = [row["caption"] for row in rows]
        texts = columns.field(caption).type
        if not pa.types.is_list(texts):
            captions = [some[0] if some else None for some in captions]
        made = {
            "key": pa.array([row["key"] for row in rows], pa.string()),
            image: pa.array([row["image"] for row in rows], pa.binary()),
            caption: pa.array(captions, texts),
        }
        others = table_of([row["json"] for row in rows], pa.schema([f for f in columns if f.name not in made]))
        made = {name: column for name, column in made.items() if name != image or name in columns.names}
        return pa.table(made | {name: others[name] for name in others.column_names})

    @property
    def _images(self) -> tuple[str, ...]:
        named = self.image.lower().split(";") if self.image not in ("", "image") else []
        return tuple(suffix.strip().lstrip(".") for suffix in named)

    def _names(self, suffixes: Suffixes) -> tuple[str, str]:
        """Returns the columns of image and caption, which are called as the recipe calls them."""
        return self.image or "image", self.caption if suffixes.caption else "caption"


def _rows(chunk: Chunk, suffixes: Suffixes, encoding: str, names: NamesBeside, with_images: bool) -> Iterator[Row]:
    """Yields key, image, captions and json of each sample; json is an object, empty if there is none."""
    samples: dict[str, dict[str, bytes]] = {}
    with _members(chunk, with_images) as file:
        headers = TarHeaders(file, chunk.uri, Seen())
        for member in headers:
            if member.type in FILES and not member.name.rpartition("/")[2].startswith("."):
                key, suffix = suffixes.divide(member.name)
                role = suffixes.role(suffix)
                if role != OTHER:
                    wanted = member.num_bytes if with_images or role != IMAGE else 0
                    samples.setdefault(key, {})[suffix] = headers.content(member, wanted)
    for key, contents in samples.items():
        yield _row(key, contents, suffixes, encoding, names)


def _row(key: str, contents: dict[str, bytes], suffixes: Suffixes, encoding: str, names: NamesBeside) -> Row:
    def text_in(suffix: str) -> str:
        return text_of(contents[suffix], encoding)

    about: Row = {}
    for suffix in sorted((suffix for suffix in contents if suffixes.role(suffix) == JSON), reverse=True):
        about |= parse_object(text_in(suffix))  # .json behind .meta.json, over its keys
    image, text = suffixes.image_of(contents), suffixes.caption_of(contents)
    own = [text_in(suffix) for suffix in text]
    if text and is_label(text[0]):
        own = [names.name_of(label.strip()) for label in own]
    return {
        "key": key,
        "image": contents[image[0]] if len(image) == 1 else None,
        "caption": _captions(own, text, about, suffixes) if len(own) <= 1 else None,
        "json": about,
    }


def _captions(own: list[str], text: list[str], about: Row, suffixes: Suffixes) -> list[str] | None:
    """Returns the caption of a member before those of .json, which go before the label of a class."""
    said = [] if suffixes.caption else captions_in(about)
    if not said or not text:
        return own or said or None
    if is_label(text[0]) or not own[0].strip():
        return said
    several = isinstance(caption_in(about), list)  # one text is most often that of the member, with other blanks
    return [*own, *(caption for caption in said if several and caption not in own)]


def _members(chunk: Chunk, with_images: bool) -> BinaryIO:
    """Opens the members of a chunk, headers included, as one tar."""
    if not with_images and not chunk.spans and is_local(chunk.uri) and not chunk.uri.lower().endswith(GZIPPED):
        return cast(BinaryIO, Span(open_bytes(chunk.uri), chunk.start, chunk.num_bytes))
    return io.BytesIO(_bytes(chunk))


def _bytes(chunk: Chunk) -> bytes:
    """Returns the members of a chunk, headers included, as one tar."""
    if not chunk.spans:
        return read_span(chunk.uri, chunk.start, chunk.num_bytes)
    spans = np.frombuffer(chunk.spans, np.int64).reshape(-1, 2).tolist()
    if is_local(chunk.uri):
        return b"".join(read_span(chunk.uri, start, end - start) for start, end in spans)
    with ThreadPoolExecutor(READ_THREADS) as pool:
        return b"".join(pool.map(lambda span: read_span(chunk.uri, span[0], span[1] - span[0]), spans))
