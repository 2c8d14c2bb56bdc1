from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.selection.random_pairs import as_random
from react_ray.selection.report import lines, set_report
from react_ray.selection.select import RetrieveConfig, select

QUERIES = pa.table(
    {
        "query_id": pa.array([0, 1, 2, 3], pa.int32()),
        "class_id": pa.array([0, 0, 1, 2], pa.int32()),
        "task": ["birds"] * 4,
        "class_name": ["heron", "heron", "egret", "owl"],
        "prompt": ["a heron", "one heron", "an egret", "an owl"],
    }
)
HITS = pa.Table.from_pylist(
    [
        dict(zip(schema.HITS.names, row, strict=True))
        for row in [
            (0, 7, 0.9, 0, "text"), (1, 7, 0.8, 0, "image"), (0, 8, 0.5, 1, "text"),
            (2, 7, 0.7, 0, "text"), (2, 8, 0.6, 1, "text"), (2, 9, 0.55, 2, "text"),
        ]
    ],
    schema=schema.HITS,
)  # fmt: skip


def test_the_report_counts_what_was_chosen_and_names_who_got_too_little() -> None:
    chosen = select(HITS, QUERIES, RetrieveConfig())
    report = set_report(chosen, QUERIES, {"pairs in the database": 20, "chosen": 3}, poor_below=2)
    assert [(row["class_name"], row["pairs"]) for row in report["classes"]] == [("heron", 1), ("egret", 2), ("owl", 0)]
    egret = report["classes"][1]
    assert (egret["score_min"], egret["score_mean"], egret["score_max"]) == (0.55, 0.575, 0.6)
    assert egret["best"] == [
        {"pair_id": 8, "score": 0.6, "prompt": "an egret"},
        {"pair_id": 9, "score": 0.55, "prompt": "an egret"},
    ]
    assert report["poor"] == ["heron (birds)", "owl (birds)"]
    assert report["keys"] == {"image": 1, "text": 5} and report["matches_per_pair"] == 2.0
    assert report["overlap"] == {"pairs": 2, "most": [{"classes": ["heron", "egret"], "pairs": 2}]}
    bins, pairs = report["score_histogram"]["bins"], report["score_histogram"]["pairs"]
    assert sum(pairs) == 3 and pairs[bins.index(0.9)] == 1
    assert json.loads(json.dumps(report)) == report
    assert lines(report) == [
        "20 pairs in the database; 3 chosen",
        "3 pairs for 3 classes: 0 to 2 each, median 1; 2 pairs were hit for several classes",
        "2 classes got fewer than 2 pairs: heron (birds), owl (birds)",
    ]


def test_random_pairs_have_no_classes_to_report() -> None:
    report = set_report(as_random(np.array([3, 4])), QUERIES, {"chosen": 2}, poor_below=1)
    assert report["classes"] == [] and report["poor"] == [] and lines(report) == ["2 chosen"]
