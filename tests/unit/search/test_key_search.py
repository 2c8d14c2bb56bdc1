"""The shards of any kind of index are searched at its target recall."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from react_ray.artifact import open_artifact
from react_ray.errors import ArtifactMismatch
from react_ray.index.config import IVF_RABITQ, IndexConfig
from react_ray.index.recall import recall_at_k
from react_ray.kinds import EMBEDDINGS, INDEX
from react_ray.search.key_search import KeySearch
from react_ray.stages.retrieval.searchers import search_params
from tests.support.searchable import ANIMALS, many, vector, write_index, write_searchable

NOTHING = np.empty(0, np.int64)
QUERIES_QD = np.stack([vector(text) for text in ANIMALS])


def opened(uri: str, with_index: bool) -> KeySearch:
    embeddings = open_artifact(f"{uri}/embeddings", EMBEDDINGS)
    return KeySearch(embeddings, open_artifact(f"{uri}/index", INDEX) if with_index else None, "text", NOTHING)


def test_a_coded_index(tmp_path: Path) -> None:
    uri = str(tmp_path)
    write_searchable(uri, [ANIMALS + many(150), many(150, 200)])
    write_index(uri, kind=IVF_RABITQ)
    coded, exact = (opened(uri, with_index).search(QUERIES_QD, 10) for with_index in (True, False))
    assert recall_at_k(coded, exact, 10) > 0.9
    assert coded.pair_ids[:, 0].tolist() == exact.pair_ids[:, 0].tolist() == list(range(8))


def test_an_index_of_other_vectors_is_refused(tmp_path: Path) -> None:
    uri = str(tmp_path)
    write_searchable(uri, [ANIMALS])
    write_index(uri, 1)
    for name in ("pairs", "embeddings"):
        (tmp_path / name).rename(tmp_path / f"old-{name}")
    write_searchable(uri, [ANIMALS[::-1]])
    with pytest.raises(ArtifactMismatch, match="covers another content of part 0"):
        opened(uri, with_index=True)


def test_the_sample_of_other_pairs_is_bounded_and_has_no_row_without_a_vector(tmp_path: Path) -> None:
    write_searchable(str(tmp_path), [many(40, 100 * part) for part in range(9)])
    embeddings = open_artifact(f"{tmp_path}/embeddings", EMBEDDINGS)
    text, image = (KeySearch(embeddings, None, key, NOTHING).sample_ND for key in ("text", "image"))
    assert text.shape == (160, 128) and image.shape == (120, 128)  # 4 of 9 parts; every 4th pair has no image
    assert np.isfinite(image).all()


@pytest.mark.parametrize(
    "named", [{}, {"recall": 0.8}, {"nprobe": 3}, {"k_factor": 4.0}, {"nprobe": 3, "k_factor": 4.0}]
)
def test_an_index_is_searched_with_the_parameters_of_a_retrieval(tmp_path: Path, named: dict) -> None:
    write_searchable(str(tmp_path), [many(150)])
    write_index(str(tmp_path), 1, IVF_RABITQ)
    index, config = open_artifact(f"{tmp_path}/index", INDEX), IndexConfig(**named)
    row = {"queries": "text", "k": 100, "k_factor": 2.0, "ef_search": 0}
    rows = [row | {"nprobe": 1, "recall": 0.85}, row | {"nprobe": 4, "recall": 0.99}]
    index.facts = replace(index.facts, calibration={"text": rows})
    search = KeySearch(open_artifact(f"{tmp_path}/embeddings", EMBEDDINGS), index, "text", NOTHING, config)
    for k in (10, 100, 150):
        assert search.params(k)[0] == search_params(index, "text", k, config)
    assert search.params(10, 0.95)[0] == search_params(index, "text", 10, IndexConfig(recall=0.95))
