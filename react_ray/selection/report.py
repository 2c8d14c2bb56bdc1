"""Describes a retrieved set: counts and scores by class, overlap between classes, examples, classes with too few pairs.

Takes the chosen pairs, the funnel of counts and the queries; gives a dict for JSON and a few lines for the terminal.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray.index.ordering import distinct
from react_ray.selection.match_quality import WEAK_BELOW, Matched
from react_ray.selection.select import coverage

BINS = np.round(np.arange(-1.0, 1.0001, 0.05), 2)  # edges of the cosine histogram
EXAMPLES, OVERLAPS, NAMED = 3, 20, 10
MOST_OF = 4  # classes; most of fewer say nothing of the templates
SO_MANY = "so many at once point to templates or a key that do not fit the database: try others"
NOT_MATCHED = Matched()


def set_report(
    chosen: pa.Table,
    queries: pa.Table,
    funnel: dict[str, int],
    poor_below: int,
    exclusive: bool = True,
    matched: Matched = NOT_MATCHED,
) -> dict[str, Any]:
    """chosen: select.MATCHED; queries: class_id, class_name, task; funnel: number of pairs after each step, in
    order. A class's `match` is null where nothing was measured (random, string)."""
    score = chosen["score"].to_numpy()
    class_id = chosen["class_id"].to_numpy()
    order = np.lexsort((chosen["pair_id"].to_numpy(), -score, class_id))
    ends = np.searchsorted(class_id[order], np.arange(int(class_id.max(initial=-1)) + 2))
    task_of = dict(zip(queries["class_id"].to_pylist(), queries["task"].to_pylist(), strict=True))
    classes = []
    for number, name, count in (
        coverage(chosen, queries, exclusive) if (class_id >= 0).any() else []
    ):  # random pairs belong to no class
        rows = order[ends[number] : ends[number + 1]] if number + 1 < len(ends) else order[:0]
        best = chosen.take(pa.array(rows[:EXAMPLES]))
        row: dict[str, Any] = {"class_id": number, "task": task_of[number], "class_name": name, "pairs": count}
        row["match"] = matched.classes[number].as_json() if number in matched.classes else None
        if len(rows):
            found = score[rows].astype(np.float64)
            row |= {
                "score_min": _short(found.min()),
                "score_mean": _short(found.mean()),
                "score_max": _short(found.max()),
            }
            row["best"] = [
                {"pair_id": pair, "score": _short(s), "prompt": matches[0]["prompt"]}
                for pair, s, matches in zip(
                    *(best[c].to_pylist() for c in ("pair_id", "score", "matches")), strict=True
                )
            ]
        classes.append(row)
    matches = _matches(chosen)
    return {
        "funnel": funnel,
        "pairs": chosen.num_rows,
        "classes": classes,
        "poor": [_named(row) for row in classes if row["pairs"] < poor_below],
        "poor_below": poor_below,
        "flagged": [_named(row) for row in classes if row["match"] and row["match"]["flags"]],
        "dropped_classes": [_named(row) for row in classes if row["class_id"] in matched.dropped],
        "match_background": bool(matched.classes) and matched.has_background,
        "matches_per_pair": _short(len(matches) / max(chosen.num_rows, 1)),
        "keys": dict(sorted(Counter(matches["key"].to_pylist()).items())) if len(matches) < 10_000_000 else {},
        "overlap": _overlap(matches, {row["class_id"]: row["class_name"] for row in classes}),
        "score_histogram": {
            "bins": BINS.tolist(),
            "pairs": np.histogram(score.astype(np.float64).round(4), BINS)[0].tolist(),
        },
    }


def are_many(num_flagged: int, num_classes: int) -> bool:
    """Whether so many classes do not match their pairs that it is not for these classes."""
    return 2 * num_flagged > num_classes >= MOST_OF


def lines(report: dict[str, Any]) -> list[str]:
    """Returns the lines of the report that the terminal shows."""
    counts = np.array([row["pairs"] for row in report["classes"]])
    out = ["; ".join(f"{count:,} {what}" for what, count in report["funnel"].items())]
    if len(counts):
        out.append(
            f"{report['pairs']:,} pairs for {len(counts):,} classes: {counts.min():,} to {counts.max():,} each, "
            f"median {int(np.median(counts)):,}; "
            f"{report['overlap']['pairs']:,} pairs were hit for several classes"
        )
    if report["poor"]:
        fewer = "no pair" if report["poor_below"] == 1 else f"fewer than {report['poor_below']} pairs"
        out.append(f"{len(report['poor'])} classes got {fewer}: {_some(report['poor'])}")
    if report["dropped_classes"]:
        left_out = report["dropped_classes"]
        out.append(f"{len(left_out)} classes are below retrieve.min_match and got no pairs: {_some(left_out)}")
    flagged = [name for name in report["flagged"] if name not in report["dropped_classes"]]
    if flagged:
        advice = (
            SO_MANY
            if are_many(len(flagged), len(counts))
            else "try synonyms, another key, other templates or a larger pool, or leave them out with "
            f"retrieve.min_match={WEAK_BELOW:g}"
        )
        out.append(
            f"{len(flagged):,} of {len(counts):,} classes do not look like what was asked for: {_some(flagged)}; "
            f"{advice} (selection.json says why)"
        )
    if any(row["match"] for row in report["classes"]) and not report["match_background"]:
        out.append("whether the pairs match their classes cannot be said: the database has too few pairs or captions")
    return out


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (" ..." if len(names) > NAMED else "")


def _named(row: dict[str, Any]) -> str:
    return f"{row['class_name']} ({row['task']})"


def _matches(chosen: pa.Table) -> pa.Table:
    """Returns one row per match: row (of the pair), class_id, key."""
    matches = chosen["matches"].combine_chunks()
    flat = matches.flatten()
    return pa.table(
        {
            "row": pc.list_parent_indices(matches),
            "class_id": pc.struct_field(flat, "class_id"),
            "key": pc.struct_field(flat, "key"),
        }
    )


def _overlap(matches: pa.Table, names: dict[int, str]) -> dict[str, Any]:
    """Counts the pairs that several classes hit, and lists the pairs of classes that share most of them."""
    rows, classes = matches["row"].to_numpy().astype(np.int64), matches["class_id"].to_numpy().astype(np.int64)
    if not len(rows):
        return {"pairs": 0, "most": []}
    width = int(classes.max()) + 1
    met = distinct(rows * width + classes)
    rows, classes = met // width, met % width
    start = np.flatnonzero(np.diff(rows, prepend=-1))
    sizes = np.diff(start, append=len(rows))
    place = np.arange(len(rows)) - np.repeat(start, sizes)
    both: Counter[int] = Counter()
    for step in range(1, min(int(sizes.max()), OVERLAPS)):  # a class and the class `step` places later in the same pair
        later = np.flatnonzero(place + step < np.repeat(sizes, sizes))
        cell, count = np.unique(classes[later] * width + classes[later + step], return_counts=True)
        both.update(dict(zip(cell.tolist(), count.tolist(), strict=True)))
    most = sorted(both.items(), key=lambda item: (-item[1], item[0]))[:OVERLAPS]
    named = [{"classes": [names.get(c // width, "?"), names.get(c % width, "?")], "pairs": n} for c, n in most]
    return {"pairs": int((sizes > 1).sum()), "most": named}


def _short(value: float) -> float:
    return round(float(value), 4)
