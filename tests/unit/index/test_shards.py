"""Shards of an index on S3 are searched in a node's copies, which are made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from react_ray.artifact import open_artifact
from react_ray.errors import ArtifactCorrupt
from react_ray.index.config import SearchParams
from react_ray.index.search_shards import search_shards
from react_ray.index.shard_cache import SHARD, ShardCache
from react_ray.index.shards import open_shards, shard_places
from react_ray.kinds import INDEX
from react_ray.storage import Storage, join
from tests.support.searchable import write_index
from tests.support.vector_database import clustered, write_database


@pytest.mark.parametrize("kind", ["flat", "ivf-rabitq"])
def test_shards_on_s3_are_opened_from_the_cache_and_copied_once(s3_place: Storage, tmp_path: Path, kind: str) -> None:
    queries_QD = clustered(20, 16, 99).astype(np.float32)
    found = []
    for uri in (s3_place.uri, str(tmp_path / "database")):
        write_database(uri, 2, 100)
        write_index(uri, kind=kind)
        places = shard_places(open_artifact(join(uri, "index"), INDEX), "image")
        cache = ShardCache(str(tmp_path / "cache"))
        for _ in range(2):
            shards = open_shards(places, cache=cache)
            found.append(search_shards(shards, queries_QD, 5, SearchParams(nprobe=4)))
            if uri == s3_place.uri:
                index = places[0].index.storage
                for path in index.list():
                    if path.startswith("image-"):
                        index.delete(path)
        cache.close()
    for one in found:
        np.testing.assert_array_equal(one.pair_ids, found[0].pair_ids)
    num_files = 2 * (1 if kind == "flat" else 3)
    assert len(list((tmp_path / "cache").glob(f"{SHARD}*"))) == num_files, "the local index is searched where it is"
    name = next(path for path in places[0].index.storage.list() if path.startswith("image-"))
    places[0].index.storage.write(name, b"damaged")
    with pytest.raises(ArtifactCorrupt, match="wrong checksum"):
        open_shards(places, cache=ShardCache(str(tmp_path / "cache")))
