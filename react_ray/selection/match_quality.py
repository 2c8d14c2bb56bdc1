"""Decides for each class whether its pairs look like what was asked for.

Takes the best pairs of each class with their captions and image vectors, and the background of random queries; gives a
ClassMatch per class. The rule: a class is flagged if its captions do not name it *and* its best hit does not stand out
from the hits of random queries. Either alone is no proof, because captions may use other words, and a random query is
sometimes near to something. docs/matching.md has the measured errors of the rule.

At most 32 pairs of each class are looked at, so that 1,000 classes of 10,000 pairs cost as much as those of 32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray.metadata import shown
from react_ray.selection.background import Background
from react_ray.selection.name_match import NameMatch
from react_ray.vectors import from_vectors

BEST = 32  # pairs of a class that are looked at, best first
UNNAMED_BELOW = 0.05  # share of captions that contain a name of the class
WEAK_BELOW = 1.1  # z-score; chosen on half of the classes of the sample by tests/benchmark/bench_match.py
FEWEST_PAIRS = 100  # in the database; among fewer, a good hit is no better than a random one
COPY_COSINE = 0.98  # of image vectors: nearly the same picture
MANY_COPIES = 0.5
UNNAMED, WEAK = "unnamed", "weak"


@dataclass(frozen=True)
class ClassMatch:
    """What speaks for and against a class's pairs; None where it cannot be measured."""

    named: float | None = None  # share of captions that contain one of the class's names
    z: float | None = None  # of the best hit, against the background of random queries
    agreement: float | None = None  # share of pairs that both keys found
    near_duplicates: float | None = None  # share of pairs whose picture another pair of the class nearly repeats
    flags: tuple[str, ...] = ()  # why the class does not match; empty = it matches, or nothing can be said
    advice: tuple[str, ...] = ()  # what to try, whole sentences

    def as_json(self) -> dict[str, Any]:
        numbers = {k: None if v is None else round(v, 3) for k, v in asdict(self).items() if k not in LISTS}
        return numbers | {"flags": list(self.flags), "advice": list(self.advice)}


LISTS = ("flags", "advice")


@dataclass(frozen=True)
class Matched:
    """What was found about the classes of a retrieval."""

    classes: Mapping[int, ClassMatch] = field(default_factory=dict)  # by class_id, of classes with pairs
    dropped: Mapping[int, int] = field(default_factory=dict)  # class_id -> pairs that min_match took from it
    has_background: bool = True  # False: too few pairs or captions, so that no class is flagged


@dataclass(frozen=True)
class Asked:
    """What was asked for one class: its names, and the background of its templates (None = nothing can be said)."""

    names: Sequence[str]
    background: Background | None
    num_templates: int = 1


def best_rows(chosen: pa.Table) -> np.ndarray:
    """Returns int64 [R], the rows of `chosen` (select.MATCHED) that are looked at, ordered by class, best first."""
    class_id, score = chosen["class_id"].to_numpy(), chosen["score"].to_numpy()
    order = np.lexsort((chosen["pair_id"].to_numpy(), -score, class_id))
    ordered = class_id[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < BEST]


def class_matches(
    best: pa.Table, facts: pa.Table, asked: Mapping[int, Asked], keys: Sequence[str]
) -> dict[int, ClassMatch]:
    """Returns the match of each class that has pairs.

    best: the rows of `best_rows`. facts: the same rows' `caption`, and `image` (vectors) if images were embedded.
    asked: by class_id. keys: the sides of a pair that were searched.
    """
    class_id = best["class_id"].to_numpy()
    captions = facts["caption"].to_pylist()
    finder = NameMatch([(number, i, name) for number, one in asked.items() for i, name in enumerate(one.names)])
    both = _found_by_both(best) if len(keys) > 1 else None
    image_ND = from_vectors(facts["image"]) if "image" in facts.column_names else None
    out = {}
    for number in np.unique(class_id).tolist():
        rows = np.flatnonzero(class_id == number)
        one = asked[number]
        written = [captions[row] for row in rows if (captions[row] or "").strip()]
        named = [any(found == number for found, _ in finder.find(text)) for text in written]
        found = ClassMatch(
            named=float(np.mean(named)) if named else None,
            z=one.background.z(float(best["score"].to_numpy()[rows].max())) if one.background else None,
            agreement=None if both is None else float(both[rows].mean()),
            near_duplicates=None if image_ND is None else _near_duplicates(image_ND[rows]),
        )
        flags = _flags(found, WEAK_BELOW)
        advice = _advice(found, flags, one, keys, len(rows))
        out[number] = ClassMatch(found.named, found.z, found.agreement, found.near_duplicates, flags, advice)
    return out


def below(matches: Mapping[int, ClassMatch], min_match: float) -> list[int]:
    """Returns the classes that `retrieve.min_match` drops: not named, and with a smaller z-score."""
    return [number for number, match in matches.items() if min_match and _flags(match, min_match)]


def _flags(match: ClassMatch, weak_below: float) -> tuple[str, ...]:
    if match.z is None or match.z >= weak_below:
        return ()
    if match.named is None:  # no captions
        return (WEAK,)
    return (UNNAMED, WEAK) if match.named < UNNAMED_BELOW else ()


def _advice(
    match: ClassMatch, flags: tuple[str, ...], asked: Asked, keys: Sequence[str], count: int
) -> tuple[str, ...]:
    out = []
    name = shown(asked.names[0] if asked.names else "it")
    if flags:
        out.append(
            f"Add synonyms of {name} to the class in tasks.class_names, or use the words of the database's captions."
            if len(asked.names) < 2
            else f"Check the names {', '.join(map(shown, asked.names))}: no caption of its best {count} pairs has one."
        )
        if len(keys) == 1:
            out.append(f"Search the other side of the pairs too: retrieve.keys=[image, text], not only {keys[0]}.")
        if asked.num_templates == 1:
            out.append("Ask in several ways: add templates in the style of the captions to tasks.templates.")
        out.append("Ingest a larger pool, or one that has the class.")
        out.append(f"Leave out classes like this one: retrieve.min_match={WEAK_BELOW:g}.")
    if (match.near_duplicates or 0) >= MANY_COPIES:
        out.append(
            f"{match.near_duplicates:.0%} of its best pairs nearly repeat a picture of another: keep one of each with "
            f"retrieve.dedup.cosine={COPY_COSINE}."
        )
    return tuple(out)


def _found_by_both(best: pa.Table) -> np.ndarray:
    """Returns bool [R], True where the pair's own class hit its image and its caption."""
    matches = best["matches"].combine_chunks()
    flat = matches.flatten()
    row = pc.list_parent_indices(matches).to_numpy()
    own = pc.struct_field(flat, "class_id").to_numpy() == best["class_id"].to_numpy()[row]
    is_text = pc.equal(pc.struct_field(flat, "key"), "text").to_numpy(zero_copy_only=False)
    sides = np.zeros((2, best.num_rows), dtype=bool)
    sides[0, row[own & is_text]] = True
    sides[1, row[own & ~is_text]] = True
    return sides[0] & sides[1]


def _near_duplicates(image_ND: np.ndarray) -> float | None:
    image_ND = image_ND[np.isfinite(image_ND).all(axis=1)].astype(np.float32)
    if not len(image_ND):
        return None
    cosine = image_ND @ image_ND.T
    np.fill_diagonal(cosine, -1)
    return float((cosine.max(axis=1) >= COPY_COSINE).mean())
