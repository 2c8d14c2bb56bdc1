"""Writes the files of ivf-rabitq shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from react_ray.index.list_shard import FILES, ListShardBuilder


def write_shard(folder: Path, quantizer: bytes, ids: np.ndarray, vectors: np.ndarray, step: int = 1000) -> list[str]:
    """Returns the paths of the files of a shard that got `step` rows at a time."""
    builder = ListShardBuilder(quantizer)
    for start in range(0, len(ids), step):
        builder.add(ids[start : start + step], vectors[start : start + step])
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in builder.finish()[1].items():
        pieces = [data] if isinstance(data, bytes) else data
        (folder / name).write_bytes(b"".join(bytes(piece) for piece in pieces))
        paths.append(str(folder / name))
    assert [Path(path).name for path in paths] == list(FILES)
    return paths
