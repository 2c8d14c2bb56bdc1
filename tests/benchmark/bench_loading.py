"""Counts what a training reads: bytes and requests of one epoch, for 1, 2 and 8 workers with 1 and 4 loaders each.

    python tests/benchmark/bench_loading.py [--pairs 28672] [--image-kb 30] [--batch-size 4096]

The pairs are parts of 2,048 as `retrieve` writes them, with random bytes for images. Each loader is a `Batches` of its
own, run through a whole epoch, one after another, which keeps only the blocks that its last batch used, as where the
data do not fit in memory. A storage between pyarrow and the files counts what is asked of it: bytes, and requests (each
would be one to S3). Nothing is decoded. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests is no installed package

from react_ray.artifact import Artifact
from react_ray.draft import create
from react_ray.kinds import IMAGES, RETRIEVED
from react_ray.parquet import group_rows
from react_ray.stages.training.rows import RetrievedRows
from react_ray.storage import Storage
from react_ray.storage.local import LocalStorage
from react_ray.training.batches import Batches
from react_ray.vectors import as_vectors

PAIRS_PER_PART, DIM, SIDE = 2048, 512, 8


class Counts:
    num_bytes = num_requests = 0

    def add(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes
        self.num_requests += 1


class CountedFile(io.RawIOBase):
    """A file that counts what is read of it."""

    def __init__(self, path: str, counts: Counts) -> None:
        self._file, self._counts = open(path, "rb", buffering=0), counts  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        num_bytes = self._file.readinto(buffer)
        self._counts.add(num_bytes)
        return num_bytes

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


class CountedStorage(LocalStorage):
    def __init__(self, uri: str, counts: Counts) -> None:
        super().__init__(uri)
        self.counts = counts

    def read(self, path: str) -> bytes:
        data = super().read(path)
        self.counts.add(len(data))
        return data

    def arrow_file(self, path: str) -> pa.NativeFile:
        self.counts.add(0)  # S3 is asked for the size
        return pa.PythonFile(CountedFile(str(self._path(path)), self.counts), "r")


def write(folder: Path, num_pairs: int, image_bytes: int) -> tuple[Artifact[Any], Artifact[Any]]:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, 1 << 26, np.uint8).tobytes()
    num_parts = -(-num_pairs // PAIRS_PER_PART)
    retrieved = create(str(folder / "retrieved"), RETRIEVED, {}, {}, num_parts)
    images = create(str(folder / "images"), IMAGES, {}, {}, num_parts)
    vectors = as_vectors(generator.standard_normal((PAIRS_PER_PART, DIM)).astype(np.float16))
    for part in range(num_parts):
        ids = np.arange(part * PAIRS_PER_PART, min((part + 1) * PAIRS_PER_PART, num_pairs))
        sizes = generator.integers(image_bytes // 2, image_bytes * 3 // 2, len(ids))
        starts = generator.integers(0, len(noise) - image_bytes * 2, len(ids))
        data = [noise[start : start + size] for start, size in zip(starts, sizes, strict=True)]
        made = pa.table({"pair_id": ids, "image": data, "status": ["ok"] * len(ids)})
        captions = [f"a photo of the animal number {number}, by somebody" for number in ids]
        rows = {"pair_id": ids, "caption": captions, "class_id": pa.array(ids % 1000, pa.int32())}
        table = pa.table(rows | {"text_embedding": vectors.slice(0, len(ids))})
        retrieved.commit(part, table, 0.0, rows_per_group=group_rows(made))
        images.commit(part, made, 0.0)
    return retrieved.seal(), images.seal()


def counted(artifact: Artifact[Any], counts: Counts) -> Artifact[Any]:
    storage: Storage = CountedStorage(artifact.uri, counts)
    return Artifact(storage, artifact.kind, artifact.manifest)


def no_pixels(image: bytes, seed: int) -> np.ndarray:
    return np.zeros((3, SIDE, SIDE), np.uint8)


def measure(rows: RetrievedRows, counts: Counts, batch_size: int, num_workers: int, num_loaders: int) -> dict[str, Any]:
    counts.num_bytes = counts.num_requests = 0
    began, num_rows = time.monotonic(), 0
    for rank in range(num_workers):
        given = Batches(
            rows,
            batch_size=batch_size,
            image_size=SIDE,
            seed=0,
            rank=rank,
            world_size=num_workers,
            augment=no_pixels,
            keep_all=False,
        )
        for loader in given.split(num_loaders):
            for step in range(loader.steps_per_epoch):
                num_rows += len(loader.batch(step).captions)
    return {
        "workers": num_workers,
        "loaders": num_loaders,
        "rows": num_rows,
        "bytes": counts.num_bytes,
        "requests": counts.num_requests,
        "s": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=28_672)
    parser.add_argument("--image-kb", type=float, default=30)
    parser.add_argument("--batch-size", type=int, default=4096)
    args = parser.parse_args()
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder:
        written = write(Path(folder), args.pairs, int(args.image_kb * 1000))
        retrieved, images = (counted(artifact, counts) for artifact in written)
        stored = sum(artifact.manifest.bytes for artifact in written)
        rows = RetrievedRows(retrieved, images)
        streams = len(Batches(rows, batch_size=args.batch_size, image_size=SIDE, seed=0).order.first_S) - 1
        print(
            f"{args.pairs:,} pairs in {images.num_parts} parts and {len(rows.block_sizes)} blocks, "
            f"{stored / 1e6:,.0f} MB; batches of {args.batch_size} from {streams} streams; "
            f"planning reads {counts.num_bytes / 1e6:.1f} MB by {counts.num_requests} requests"
        )
        found = []
        for num_workers in (1, 2, 8):
            for num_loaders in (1, 4):
                one = measure(rows, counts, args.batch_size, num_workers, num_loaders)
                one["share"] = round(one["bytes"] / stored, 3)
                found.append(one)
                print(
                    f"{num_workers} workers x {num_loaders} loaders: {one['bytes'] / 1e6:,.0f} MB in an epoch of "
                    f"{one['rows']:,} pairs = {one['share']:.2f} x the data, by {one['requests']:,} requests",
                    flush=True,
                )
    largest = max(one["share"] for one in found)
    print(
        json.dumps({"stored_bytes": stored, "blocks": len(rows.block_sizes), "largest_share": largest, "epochs": found})
    )


if __name__ == "__main__":
    main()
