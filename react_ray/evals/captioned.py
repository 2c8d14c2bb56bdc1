"""Opens images with captions for image-text retrieval: Karpathy's JSON, or whatever `ingest` reads as pairs with images
(Parquet, Arrow, WebDataset tars, folders with texts beside the images), with one caption or a list of them per image.

A CaptionedSet is planned once and read anywhere; it is picklable. Next: image_text.py.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from react_ray.errors import ConfigError, ReactRayError
from react_ray.evals.karpathy import Karpathy, open_karpathy
from react_ray.evals.set_digest import set_digest
from react_ray.pairs.columns import find_columns
from react_ray.pairs.image import inspect
from react_ray.pairs.image_cells import image_cells
from react_ray.pairs.ingest_config import IngestConfig
from react_ray.pairs.source import Source, open_source
from react_ray.progress import say
from react_ray.schema import OK

FIRST_IMAGES = 8  # decoded before anything is trained; if none of them is an image, the set is refused
TEXTS = pa.list_(pa.string())
OF_INGEST = re.compile(r"name (?:one|its column) with ingest\.\w+(?: or ingest\.\w+)*")


@dataclass(frozen=True)
class CaptionedSet:
    rows: Karpathy | Source
    num_images: int
    digest: str  # of its images and captions

    def read(self, start: int, count: int) -> pa.Table:
        """Returns some images: columns image (binary, null without an image) and captions (lists of strings)."""
        return _read(self.rows, start, min(count, self.num_images - start))


def check_captioned(source: str, whose: str, most: float = 0) -> None:
    """ConfigError unless there are images with captions, of which a first one can be decoded.

    whose: the field of the recipe that names the set, for messages. most: the share of rows that may have no image.
    """
    rows = _open_rows(source, whose, most)
    cells = _read(rows, 0, FIRST_IMAGES)["image"].to_pylist()
    facts = [inspect(data) for data in cells]
    if all(fact.status != OK for fact in facts):
        raise ConfigError(
            f"{whose}: none of the first {len(facts)} images of {source} can be decoded ({facts[0].error}); name a set "
            "of encoded images"
        )


def open_captioned(source: str, whose: str, most: float = 0) -> CaptionedSet:
    """Plans a set, and reads all of its captions once. Arguments and errors as in `check_captioned`.

    ConfigError for an image that has no caption or a blank one, too. Captions that several images share are counted
    and said: none of them can be found by its caption alone.
    """
    rows = _open_rows(source, whose, most)
    if isinstance(rows, Karpathy):
        captions = rows.captions()
    else:
        some = [_captions(rows.read_rows(part.row_start, part.num_rows), rows) for part in rows.parts]
        captions = pa.chunked_array(some, TEXTS).to_pylist()
    for row, texts in enumerate(captions):
        if not texts or not all(text and text.strip() for text in texts):
            which = rows.paths()[row] if isinstance(rows, Karpathy) else f"image {row + 1}"
            raise ConfigError(
                f"{whose}: {which} of {source} has {'a blank' if texts else 'no'} caption; write one, or leave "
                "the image out"
            )
    shared = sum(num for num in Counter(text for texts in captions for text in set(texts)).values() if num > 1)
    if shared:
        total = sum(map(len, captions))
        say(f"{whose}: {shared:,} of {total:,} captions are those of several images; each is right for its own alone")
    listed = pa.table({"task": [""], "label": [repr(captions)]})
    return CaptionedSet(rows, len(captions), set_digest(rows.folder if isinstance(rows, Karpathy) else source, listed))


def _open_rows(source: str, whose: str, most: float) -> Karpathy | Source:
    return open_karpathy(source, whose) or _open(source, whose, most)


def _read(rows: Karpathy | Source, start: int, count: int) -> pa.Table:
    return rows.read(start, count) if isinstance(rows, Karpathy) else _rows(rows, start, count)


def _open(source: str, whose: str, most: float) -> Source:
    try:
        found = open_source(IngestConfig(source=source, max_unusable=most))
    except ReactRayError as error:
        said = OF_INGEST.sub("rename the column", str(error)).removeprefix("ingest.source: ")
        said = said.replace("ingest.source", whose).replace("ingest.max_unusable", "evaluate.max_unreadable")
        raise ConfigError(said if said.startswith(whose) else f"{whose}: {said}") from error
    if not found.has_images or not find_columns(found.schema, found.config).caption:
        raise ConfigError(
            f"{whose}: {source} has no column of {'captions' if found.has_images else 'images'}, only "
            f"{', '.join(found.columns)}; name a set that has the images themselves and their captions"
        )
    return found


def _rows(rows: Source, start: int, count: int) -> pa.Table:
    table = rows.read_rows(start, min(count, rows.num_rows - start))
    cells = image_cells(table[find_columns(rows.schema, rows.config).image], "")
    return pa.table({"image": pa.array([cell.data for cell in cells], pa.binary()), "captions": _captions(table, rows)})


def _captions(table: pa.Table, rows: Source) -> pa.Array:
    """Returns lists of captions, whatever the column holds; a null is an empty list."""
    found = table[find_columns(rows.schema, rows.config).caption].to_pylist()
    lists = [one if isinstance(one, list) else [] if one is None else [one] for one in found]
    return pa.array(lists, TEXTS)
