from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from react_ray.selection.background import Background
from react_ray.selection.match_quality import BEST, Asked, ClassMatch, Matched, below, best_rows, class_matches
from react_ray.selection.report import lines, set_report
from react_ray.selection.select import SELECTED
from react_ray.vectors import as_vectors

BACKGROUND = Background(np.linspace(0.2, 0.4, 41).astype(np.float32))  # mean 0.3, standard deviation 0.06
PROMPT = "a photo of it"


def chosen_of(rows: list[tuple[int, float, list[tuple[int, str]]]]) -> pa.Table:
    """rows: (class_id, score, [(class_id of a match, key)])."""
    values = [
        {
            "pair_id": number,
            "class_id": class_id,
            "score": score,
            "matches": [{"class_id": c, "prompt": PROMPT, "score": score, "key": key} for c, key in matches],
        }
        for number, (class_id, score, matches) in enumerate(rows)
    ]
    return pa.Table.from_pylist(values, schema=SELECTED)


def matches_of(
    rows: list[tuple[int, float, list[tuple[int, str]]]],
    captions: list[str | None],
    names: dict[int, list[str]],
    keys: list[str] | None = None,
    background: Background | None = BACKGROUND,
    image_ND: np.ndarray | None = None,
) -> dict[int, ClassMatch]:
    facts = pa.table({"caption": pa.array(captions, pa.string())})
    if image_ND is not None:
        facts = facts.append_column("image", as_vectors(image_ND.astype(np.float16)))
    asked = {number: Asked(each, background) for number, each in names.items()}
    return class_matches(chosen_of(rows), facts, asked, keys or ["text"])


def test_a_class_is_flagged_if_no_caption_names_it_and_its_best_hit_is_like_a_random_one() -> None:
    rows: list[Any] = [(number, score, []) for number, score in [(0, 0.33), (1, 0.33), (2, 0.6), (3, 0.6)]]
    captions: list[str | None] = ["a tray", "An EGRET, drawn", "bird", "owls"]
    found = matches_of(rows, captions, {0: ["accordion"], 1: ["heron", "egret"], 2: ["crane"], 3: ["owl", "owls"]})
    assert {number: match.flags for number, match in found.items()} == {
        0: ("unnamed", "weak"), 1: (), 2: (), 3: (),
    }  # fmt: skip
    assert [match.named for match in found.values()] == [0, 1, 0, 1]
    assert found[0].z == pytest.approx(0.5, abs=0.02) and found[2].z == pytest.approx(5.1, abs=0.1)
    assert "synonyms of 'accordion'" in found[0].advice[0] and "retrieve.min_match=1.1." in found[0].advice[-1]
    assert all(text.endswith(".") for text in found[0].advice) and found[1].advice == ()
    assert json.loads(json.dumps(found[0].as_json())) == found[0].as_json()


def test_without_captions_the_hits_alone_decide_and_without_background_nothing_is_said() -> None:
    rows: list[Any] = [(0, 0.33, []), (1, 0.6, [])]
    names = {0: ["owl"], 1: ["crane"]}
    blind = matches_of(rows, [None, " "], names)
    assert blind[0].flags == ("weak",) and blind[0].named is None and blind[1].flags == ()
    unknown = matches_of(rows, ["a tray", "a box"], names, background=None)
    assert unknown[0].flags == unknown[1].flags == () and unknown[0].z is None and unknown[0].named == 0


def test_min_match_drops_classes_that_are_not_named_and_score_lower() -> None:
    rows: list[Any] = [(0, 0.33, []), (1, 0.45, []), (2, 0.33, []), (3, 0.9, [])]
    found = matches_of(rows, ["tray", "box", "an owl", "jar"], {0: ["heron"], 1: ["egret"], 2: ["owl"], 3: ["crane"]})
    assert [below(found, least) for least in (0, 1, 3, 20)] == [[], [0], [0, 1], [0, 1, 3]]


def test_agreement_counts_the_pairs_that_both_keys_found_for_their_class() -> None:
    both, other = [(0, "text"), (0, "image"), (1, "text")], [(0, "text"), (1, "image")]
    rows: list[Any] = [(0, 0.9, both), (0, 0.8, other)]
    names = {0: ["owl"], 1: ["crane"]}
    assert matches_of(rows, ["owl"] * 2, names, ["image", "text"])[0].agreement == 0.5
    assert matches_of(rows, ["owl"] * 2, names, ["text"])[0].agreement is None


def test_pictures_that_repeat_are_counted_and_advised_against_but_flag_nothing() -> None:
    image_ND = np.eye(4)[[0, 0, 0, 1]]
    image_ND[3] = np.nan
    rows: list[Any] = [(0, 0.9, [])] * 4
    found = matches_of(rows, ["owl"] * 4, {0: ["owl"]}, image_ND=image_ND)[0]
    assert found.near_duplicates == 1 and found.flags == () and "dedup.cosine=0.98" in found.advice[0]
    assert matches_of(rows, ["owl"] * 4, {0: ["owl"]}, image_ND=np.eye(4))[0].near_duplicates == 0


def test_only_the_best_pairs_of_a_class_are_looked_at() -> None:
    rows: list[Any] = [(row % 2, row / 100, []) for row in range(90)]
    best = best_rows(chosen_of(rows)).tolist()
    assert best == [row for first in (88, 89) for row in range(first, first - 2 * BEST, -2)]


QUERIES = pa.table(
    {
        "query_id": pa.array([0, 1], pa.int32()),
        "class_id": pa.array([0, 1], pa.int32()),
        "task": ["objects", "objects"],
        "class_name": ["accordion", "tray"],
        "prompt": ["accordion", "tray"],
    }
)


def test_the_report_names_the_classes_that_do_not_match_and_those_that_were_dropped() -> None:
    chosen = chosen_of([(0, 0.3, [(0, "text")]), (1, 0.5, [(1, "text")])])
    accordion = ClassMatch(0.0, 0.4, None, None, ("unnamed", "weak"), ("Add synonyms.",))
    matched = Matched({0: accordion, 1: ClassMatch(1.0, 3.0)})
    report = set_report(chosen, QUERIES, {"chosen": 2}, 1, matched=matched)
    assert report["flagged"] == ["accordion (objects)"] and report["dropped_classes"] == []
    assert report["classes"][0]["match"] == {
        "named": 0.0, "z": 0.4, "agreement": None, "near_duplicates": None, "flags": ["unnamed", "weak"],
        "advice": ["Add synonyms."],
    }  # fmt: skip
    told = lines(report)[-1]
    assert told.startswith("1 of 2 classes do not look like what was asked for: accordion (objects); try synonyms")
    dropped = set_report(chosen.slice(1), QUERIES, {"chosen": 1}, 1, matched=Matched(matched.classes, {0: 1}))
    assert lines(dropped)[-1] == "1 classes are below retrieve.min_match and got no pairs: accordion (objects)"


def test_where_nothing_can_be_said_the_report_says_so() -> None:
    chosen = chosen_of([(0, 0.3, [(0, "text")])])
    report = set_report(chosen, QUERIES, {"chosen": 1}, 0, matched=Matched({0: ClassMatch(0.0)}, {}, False))
    assert "cannot be said" in lines(report)[-1] and report["flagged"] == []
    silent = set_report(chosen, QUERIES, {"chosen": 1}, 0)
    assert [row["match"] for row in silent["classes"]] == [None, None] and "cannot" not in lines(silent)[-1]


def test_if_most_classes_are_flagged_the_templates_are_blamed() -> None:
    numbers = range(4)
    queries = pa.table(
        {
            "query_id": pa.array(numbers, pa.int32()),
            "class_id": pa.array(numbers, pa.int32()),
            "task": ["objects"] * 4,
            "class_name": list("abcd"),
        }
    )
    chosen = chosen_of([(number, 0.3, [(number, "text")]) for number in numbers])
    weak = ClassMatch(0.0, 0.4, None, None, ("unnamed", "weak"), ("Add synonyms.",))
    report = set_report(chosen, queries, {"chosen": 4}, 1, matched=Matched(dict.fromkeys(numbers, weak)))
    assert "so many at once point to templates or a key that do not fit" in lines(report)[-1]
