"""Makes a small database as `download` does, but without Ray: `pairs/` with an extra column, and `images/`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from react_ray.artifact import Parts
from react_ray.draft import create
from react_ray.kinds import IMAGES, PAIRS
from react_ray.pair_id import pair_ids
from react_ray.pairs.download import DownloadConfig, download
from react_ray.web.fetch import Fetcher
from tests.support.url_list import QUICK

ROWS_PER_PART = 8


def downloaded(folder: Path, urls: list[str | None], seal: bool = True) -> Parts:
    """Downloads `urls`; seal=False leaves out the last part and the manifest, like a download that is still running."""
    config = DownloadConfig(**QUICK, image_size=32, resize_mode="keep_ratio")
    num_parts = -(-len(urls) // ROWS_PER_PART)
    pairs = create(str(folder / "pairs"), PAIRS, {}, {}, num_parts)
    for part in range(num_parts):
        of_part = urls[part * ROWS_PER_PART : (part + 1) * ROWS_PER_PART]
        captions = [f"picture {part}.{row}, “quoted”" for row in range(len(of_part))]
        table = pa.table(
            {
                "pair_id": pair_ids(part, len(of_part)),
                "url": of_part,
                "caption": captions,
                "similarity": [row / 100 for row in range(len(of_part))],
            }
        )
        pairs.commit(part, table, 0.0)
    sealed = pairs.seal()
    images = create(str(folder / "images"), IMAGES, config.digested(), {"pairs": sealed}, num_parts)
    with Fetcher(config) as fetcher:
        for part in range(num_parts if seal else num_parts - 1):
            images.commit(part, download(sealed.read(part), fetcher, config), 0.5)
    return images.seal() if seal else images
