"""The cut into groups is a partition that every process finds by itself; a group holds what its memory allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.artifact import open_artifact
from react_ray.index.config import FLAT, IVF_RABITQ
from react_ray.kinds import INDEX
from react_ray.serving.cutting import all_places, cut, memory_bytes, num_groups
from tests.support.searchable import many, write_index, write_searchable


@pytest.mark.parametrize("kind", [FLAT, IVF_RABITQ])
def test_every_shard_is_in_one_group(tmp_path: Path, kind: str) -> None:
    uri = str(tmp_path / "database")
    write_searchable(uri, [many(60), many(60, 100), many(60, 200)])
    write_index(uri, num_shards=3, kind=kind)
    index = open_artifact(f"{uri}/index", INDEX)
    every = sorted((place.key, place.shard) for place in all_places(index))
    assert len(every) == 6
    for count in (1, 2, 4, 6):
        shares = cut(index, count)
        assert len(shares) == count
        assert sorted((p.key, p.shard) for of in shares for some in of.values() for p in some) == every
        filled = [sum(memory_bytes(place) for some in of.values() for place in some) for of in shares]
        assert max(filled) - min(filled) <= max(map(memory_bytes, all_places(index)))
    total = sum(map(memory_bytes, all_places(index)))
    assert [num_groups(index, gb) for gb in (1, total / 1e9, total / 2.5e9, 1e-9)] == [1, 1, 3, 6]
    assert num_groups(None, 8) == 1 and cut(None, 1) == [{}]
