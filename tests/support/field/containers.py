"""Makes images of all kinds, tars with any members, and reads a source back as ingest does."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Iterable

import pyarrow as pa
from PIL import Image

from react_ray.pairs.source import IngestConfig, Source, open_source, to_images, to_pairs

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "ico": "ICO"} | {
    "avif": "AVIF",
    "dib": "DIB",
}


def drawing(number: int, kind: str = "jpg") -> bytes:
    """An image that is 20 + number wide."""
    buffer = io.BytesIO()
    image = Image.new("RGB", (20 + number, 10), (number * 9 % 256, 90, 30))
    image.save(buffer, FORMATS[kind], **({"sizes": [image.size]} if kind == "ico" else {}))
    return buffer.getvalue()


def tar(members: Iterable[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar with these members in this order; a name may occur twice."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def ingested(config: IngestConfig) -> tuple[Source, pa.Table, pa.Table]:
    """The source, and the pairs and images of all its parts."""
    source = pickle.loads(pickle.dumps(open_source(config)))
    tables = [source.read(part.part) for part in source.parts]
    assert [len(table) for table in tables] == [part.num_rows for part in source.parts]
    pairs = pa.concat_tables([to_pairs(table, part, config) for part, table in enumerate(tables)])
    images = pa.concat_tables([to_images(table, part, config) for part, table in enumerate(tables)])
    return source, pairs, images
