"""Filters and facts are over the columns that a database has, of all of its pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from react_ray.draft import create
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.kinds import IMAGES
from react_ray.pair_id import pair_ids
from react_ray.search.facts import facts_of
from react_ray.search.filtered import Filters
from react_ray.serving.groups import Opened
from tests.support.searchable import many, write_searchable


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Two parts, of which the images of the first are there, with two columns."""
    uri = str(tmp_path / "database")
    write_searchable(uri, [many(4), many(4, 4)])
    images = create(f"{uri}/images", IMAGES, {}, {}, 1)
    columns = {"status": ["ok", "http_404"] * 2, "sha256": ["a", None, "b", None]}
    images.commit(0, pa.table({"pair_id": pair_ids(0, 4), **columns}), 0.0)
    images.seal()
    return Opened.at(uri)


def over(opened: Opened, *texts: str) -> Filters:
    return Filters.over([*texts], opened.pairs, opened.embeddings, opened.images)


def test_pairs_whose_images_are_not_there_yet_pass_no_condition_on_them(opened: Opened) -> None:
    filters = over(opened, "status != http_404")
    [(passed, known)], [(passed_of_added, known_of_added)] = filters.judge(0), filters.judge(1)
    assert passed.tolist() == [True, False, True, False] and known.all()
    assert len(passed_of_added) == 4 and not passed_of_added.any() and not known_of_added.any()


@pytest.mark.parametrize("text", ["phash == 3", "width in 1, wide", "similarity in a, b"])
def test_what_cannot_be_asked_is_said_before_anything_is_read(opened: Opened, text: str) -> None:
    with pytest.raises(ConfigError, match=r"no column|of that type"):
        over(opened, text)


def test_facts_of_images_that_are_not_there_yet_are_null(opened: Opened) -> None:
    assert opened.images is not None
    ids = np.concatenate([pair_ids(1, 4), pair_ids(0, 4)])
    found = facts_of({"images": opened.images}, ids, ["sha256"])
    assert found["pair_id"].to_pylist() == ids.tolist()
    assert found["sha256"].to_pylist() == [None] * 4 + ["a", None, "b", None]
    with pytest.raises(ArtifactMismatch, match="no column phash"):
        facts_of({"images": opened.images}, ids, ["phash"])
