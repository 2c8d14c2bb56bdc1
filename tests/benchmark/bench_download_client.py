"""Downloads one part as a worker does: reads a JSON job from standard input, prints CPU seconds and images as JSON."""

from __future__ import annotations

import json
import sys
import threading
import time

import pyarrow as pa

from react_ray.draft import create
from react_ray.kinds import IMAGES
from react_ray.pairs.download import DownloadConfig, download
from react_ray.web.fetch import Fetcher


def main() -> None:
    job = json.load(sys.stdin)
    urls = job["urls"]
    config = DownloadConfig(
        resize_mode="keep_ratio",
        image_size=256,
        resize_only_if_bigger=False,
        skip_reencode=False,
        encode_quality=95,
        retries=0,
        allow_private_addresses=True,
        ca_file=job["ca_file"],
        max_in_flight=job["in_flight"],
        per_host_concurrency=job["in_flight"],
        adaptive=False,
    )
    pairs = pa.table(
        {"pair_id": pa.array(range(len(urls)), pa.int64()), "url": urls, "caption": ["a caption"] * len(urls)}
    )
    began = time.process_time()
    images = create(job["folder"], IMAGES, config.digested(), {}, 1)
    with Fetcher(config) as fetcher:
        images.commit(0, download(pairs, fetcher, config), 0.0)
        fetching = next(thread.ident for thread in threading.enumerate() if thread.name == "fetch")
        fetch_cpu_s = time.clock_gettime(time.pthread_getcpuclockid(fetching))  # type: ignore[arg-type]
    ok = images.seal().manifest.ok
    print(json.dumps({"cpu_s": time.process_time() - began, "fetch_cpu_s": fetch_cpu_s, "ok": ok}))


if __name__ == "__main__":
    main()
