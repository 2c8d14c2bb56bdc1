"""Makes URL lists of the misbehaving web, of which about 30 % give no image, and a recipe that downloads one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from tests.support.small_run import small_recipe
from tests.support.web import Web

# In every 20 rows, 6 fail: immediately, and in the same way at every request.
BAD = (
    "/status/404",
    "/html",
    "/cut",
    "/zero",
    "/short",
    "/disconnect",
    "/loop/a",
    "/huge",
    "/status/410",
    "/to?url=ftp://x/",
)
GOOD_KINDS = ("jpg", "jpg", "png", "webp")
QUICK = {"allow_private_addresses": True, "retries": 0, "backoff_s": 0.0}


def misbehaving(web: Web, num_rows: int) -> list[str]:
    """Returns the same list for the same number of rows; image URLs are distinct and spread over several hosts."""
    urls = []
    for row in range(num_rows):
        host = web.host(row % 7)
        if row % 20 < 5:
            urls.append(f"{host}{BAD[(row // 20 + row) % len(BAD)]}")
        elif row % 20 == 5:
            urls.append(("", "no url at all", f"http://127.0.0.1:{web.closed_port}/{row}.jpg")[row // 20 % 3])
        else:
            urls.append(f"{host}/image/{row % 200}.{GOOD_KINDS[row % 4]}?side={40 + row % 60}&row={row}")
    return urls


def write_list(path: Path, urls: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["url", "caption"])
        writer.writerows([url, f"picture {row}"] for row, url in enumerate(urls))
    return path


def list_recipe(folder: Path, urls: list[str], rows_per_part: int, **download: Any) -> str:
    """Writes a recipe whose source is this list, and returns its path."""
    source = write_list(folder / "list.csv", urls)
    return small_recipe(
        folder,
        ingest={"source": str(source), "rows_per_part": rows_per_part},
        download={**QUICK, "image_size": 32, **download},
    )
