"""Downloads one shard with img2dataset 1.47 as its worker does, in its own venv; see bench_download_client.py."""

from __future__ import annotations

import json
import sys
import time

import pyarrow as pa
from img2dataset.downloader import Downloader  # type: ignore[import-not-found]
from img2dataset.resizer import Resizer  # type: ignore[import-not-found]
from img2dataset.writer import WebDatasetSampleWriter  # type: ignore[import-not-found]


def main() -> None:
    job = json.load(sys.stdin)
    urls, folder = job["urls"], job["folder"]
    table = pa.table({"url": urls, "caption": ["a caption"] * len(urls)})
    with pa.OSFile(f"{folder}/list.arrow", "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    resizer = Resizer(image_size=256, resize_mode="keep_ratio", resize_only_if_bigger=False)  # and JPEG of quality 95
    downloader = Downloader(
        sample_writer_class=WebDatasetSampleWriter,
        resizer=resizer,
        thread_count=job["in_flight"],
        save_caption=True,
        extract_exif=False,
        output_folder=folder,
        column_list=["url", "caption"],
        timeout=60,
        number_sample_per_shard=10_000,
        oom_shard_count=5,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format="jpg",
        retries=0,
        user_agent_token=None,
        disallowed_header_directives=["noai", "noimageai", "noindex", "noimageindex"],
    )
    began = time.process_time()
    downloader.download_shard((0, f"{folder}/list.arrow"))
    cpu_s = time.process_time() - began
    with open(f"{folder}/00000_stats.json") as file:
        print(json.dumps({"cpu_s": cpu_s, "ok": json.load(file)["successes"]}))


if __name__ == "__main__":
    main()
