"""What a made source holds, and what the product reads from it, in one form in which the two can be compared."""

from __future__ import annotations

import hashlib
import pickle
import random
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from react_ray import schema
from react_ray.pairs.source import IngestConfig, Source, open_source, to_images, to_pairs
from tests.campaign.case import Wrong, check
from tests.campaign.image_seeds import picture, saved

IMAGE_KINDS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "avif": "AVIF", "tiff": "TIFF"}
MANY_ROWS = 20_000  # of a source with more, only the first and the last part are read
NUM_IMAGES = 12  # of each kind; sources share them
WORDS = (
    "heron",
    '"so" it',
    "egret",
    "“quoted”",
    'a "bill"',
    "5' 3\"",
    "blue, grey",
    "Ärger",
    "鷺",
    "no",
    "1984",
    "a;b",
    "🦆",
    "x|y",
    "\\n",
)


@dataclass(frozen=True)
class Pair:
    caption: str
    url: str | None = None
    image: bytes | None = None
    kind: str = ""  # of the image: a file extension
    vector: tuple[float, ...] = ()


@dataclass(frozen=True)
class Made:
    """A source in a folder. pairs: what a right reading gives or, of a hostile source, has to account for."""

    source: str
    how: str
    pairs: list[Pair]
    is_ordered: bool = True
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    source: Source
    tables: list[pa.Table]  # of each part, as they were read
    pairs: list[tuple[str | None, str, str | None]]  # url, caption and sha256 of the image
    num_bad: int  # rows whose image cannot be decoded, or without a URL

    @property
    def num_passed(self) -> int:
        return sum(counted.count for counted in self.source.seen.passed.values())


def made_pairs(rng: random.Random, what: str, most: int = 40, newlines: bool = False) -> list[Pair]:
    """what: "images", "urls" or "both". Captions are all different."""
    pairs = []
    for number in range(rng.randrange(1, most)):
        words = rng.choices(WORDS, k=rng.randrange(1, 5))
        between = "\n" if newlines and rng.random() < 0.1 else " "
        caption = f"{between.join(words)} {number}"
        kind = rng.choice(list(IMAGE_KINDS))
        image = small_image(kind, rng.randrange(NUM_IMAGES)) if what != "urls" else None
        url = f"https://h{number % 3}.example.org/é/{number}.jpg?a=1&b=%20,2" if what != "images" else None
        pairs.append(Pair(caption, url, image, kind if image else ""))
    return pairs


@cache
def small_image(kind: str, number: int) -> bytes:
    options = {"speed": 10} if kind == "avif" else {}
    return saved(picture(random.Random(f"{kind} {number}"), longest=24), IMAGE_KINDS[kind], **options)


def read(made: Made, rows_per_part: int) -> Found:
    """Opens a source, and reads every part as a worker does that was sent it."""
    config = IngestConfig(source=made.source, rows_per_part=rows_per_part, **made.config)
    source = pickle.loads(pickle.dumps(open_source(config)))
    for line in source.summary():
        check(len(line.splitlines()) == 1 and len(line) < 5000, f"a summary that is not one line: {line[:300]!r}")
    tables, pairs, num_bad = [], [], 0
    parts = source.parts if source.num_rows <= MANY_ROWS else [source.parts[0], source.parts[-1]]
    for part in parts:
        table = source.read(part.part)
        check(len(table) == part.num_rows, f"{len(table)} rows in a part of {part.num_rows}")
        tables.append(_valid(table))
        listed = _valid(to_pairs(table, part.part, config))
        columns = [listed["url"].to_pylist(), listed["caption"].to_pylist()]
        if source.has_images:
            images = to_images(table, part.part, config)
            statuses = images["status"].to_pylist()
            num_bad += sum(status != schema.OK for status in statuses)
            for status, error in zip(statuses, images["error"].to_pylist(), strict=True):
                check((status == schema.OK) == (error is None), f"status {status} with the error {error}")
            check(schema.INTERNAL_ERROR not in statuses, f"internal_error: {images['error'].to_pylist()}")
            columns.append(images["sha256"].to_pylist())
        else:
            num_bad += 0 if source.has_vectors else listed["url"].null_count
            columns.append([None] * len(table))
        check(None not in columns[1], "a caption is null")
        pairs += list(zip(*columns, strict=True))
    num_rows = sum(part.num_rows for part in parts)
    check(len(pairs) == num_rows, f"{len(pairs)} rows of {num_rows}")
    return Found(source, tables, pairs, num_bad)


def _valid(table: pa.Table) -> pa.Table:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise Wrong(f"an invalid table: {str(error).splitlines()[0]}") from error
    return table


def wanted(pairs: list[Pair]) -> list[tuple[str | None, str, str | None]]:
    return [(pair.url, pair.caption, hashlib.sha256(pair.image).hexdigest() if pair.image else None) for pair in pairs]


def difference(found: list[Any], right: list[Any], is_ordered: bool) -> str:
    """Returns the first difference in a few words, or ""."""
    if len(found) != len(right):
        return f"{len(found)} rows, and there are {len(right)}"
    if not is_ordered:
        found, right = sorted(found, key=repr), sorted(right, key=repr)
    for row, (is_there, should_be) in enumerate(zip(found, right, strict=True)):
        if is_there != should_be:
            return f"row {row} is {is_there}, and should be {should_be}"
    return ""


def write(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def some(rng: random.Random, **shares: float) -> set[str]:
    """Returns each name with its probability."""
    return {name for name, share in shares.items() if rng.random() < share}
