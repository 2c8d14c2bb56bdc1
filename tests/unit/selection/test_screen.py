from __future__ import annotations

import numpy as np
import pyarrow as pa

from react_ray.selection.config import DecontaminateConfig, DedupConfig, RetrieveConfig
from react_ray.selection.references import References
from react_ray.selection.screen import columns_needed, hosts, screen
from react_ray.vectors import as_vectors

VECTORS = np.array([[1, 0], [1, 0.01], [0, 1], [0.7, 0.7], [np.nan, np.nan]], np.float16)
FACTS = pa.table(
    {
        "pair_id": pa.array([3, 5, 8, 9, 12], pa.int64()),
        "url": ["http://a.com/1", "https://www.A.com:80/2", None, "http://a.com/1", "ftp://me@b.org/x?y"],
        "sha256": ["aa", "aa", None, None, "bb"],
        "phash": pa.array([0, 7, 0xFF00, None, 0xFF01], pa.uint64()),
        "image": as_vectors(VECTORS),
    }
)
SCORE = np.array([0.1, 0.9, 0.5, 0.5, 0.7], np.float32)


def kept(**settings: object) -> list[int]:
    found = screen(FACTS, SCORE, RetrieveConfig.model_validate(settings), None)
    return found.pair_ids[found.kept].tolist()


def test_of_equals_the_best_score_stays_and_what_is_unknown_is_equal_to_nothing() -> None:
    assert kept() == [3, 5, 8, 9, 12]
    assert kept(dedup={"url": True}) == [5, 8, 9, 12]
    assert kept(dedup={"sha256": True}) == [5, 8, 9, 12]
    assert kept(dedup={"phash": 1}) == [3, 5, 9, 12]
    assert kept(dedup={"phash": 3}) == [5, 9, 12]
    assert kept(dedup={"cosine": 0.99}) == [5, 8, 9, 12]


def test_an_evaluation_image_takes_its_copies_with_it_before_duplicates_are_counted() -> None:
    config = RetrieveConfig(
        dedup=DedupConfig(sha256=True), decontaminate=DecontaminateConfig(datasets=["x"], phash=0, cosine=0.999)
    )
    found = screen(FACTS, SCORE, config, References(np.array([7], np.uint64), np.array([[0, 1]], np.float16)))
    assert found.pair_ids[found.kept].tolist() == [3, 9, 12]
    assert found.dropped == {"evaluation phash": 1, "evaluation cosine": 1, "duplicate sha256": 0}


def test_hosts_are_compared_without_case_port_and_www() -> None:
    assert hosts(FACTS["url"]).to_pylist() == ["a.com", "a.com", None, "a.com", "b.org"]
    found = screen(FACTS, SCORE, RetrieveConfig(max_per_domain=1), None)
    assert found.host[0] == found.host[1] == found.host[3] != found.host[4] and found.host[2] == -1


def test_only_what_is_asked_for_is_read() -> None:
    assert columns_needed(RetrieveConfig()) == []
    assert columns_needed(RetrieveConfig(max_per_domain=2, dedup=DedupConfig(phash=2))) == ["url", "phash"]
    assert columns_needed(RetrieveConfig(decontaminate=DecontaminateConfig(datasets=["all"], cosine=0.9))) == ["image"]


def test_what_duplicates_a_duplicate_is_of_the_pair_that_stays() -> None:
    vectors_ND = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float16)
    urls = ["http://e.org/a", "http://e.org/b", "http://e.org/b", "http://e.org/c"]
    facts = pa.table({"pair_id": [3, 5, 7, 9], "url": urls, "image": as_vectors(vectors_ND)})
    config = RetrieveConfig(dedup=DedupConfig(url=True, cosine=0.9))
    found = screen(facts, np.array([0.9, 0.8, 0.7, 0.6], np.float32), config, None)
    assert found.kept.tolist() == [True, False, False, True] and found.of.tolist() == [0, 0, 0, 3]
