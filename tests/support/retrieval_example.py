"""A made-up gallery: one class is flagged, one has no pairs, and some texts could break a page."""

from __future__ import annotations

from react_ray.report.class_gallery import ClassEntry, Gallery, Pair
from tests.support.report_example import EVIL, picture

LONG = "a_word_without_a_space_" * 12


def gallery(num_classes: int = 12, num_pairs: int = 6) -> Gallery:
    return Gallery(
        name=f"birds {EVIL} {LONG}",
        facts=[("pairs", f"{num_classes * num_pairs}"), ("database", f"/data/{LONG}/database")],
        classes=[_entry(i, num_pairs) for i in range(num_classes)] + [_entry(num_classes, 0)],
        notes=[LONG],
        warnings=[f"{LONG}: `react-ray retrieve {LONG}` goes on."],
    )


def _entry(number: int, num_pairs: int) -> ClassEntry:
    is_odd = number == 1
    return ClassEntry(
        task=("birds", "boats")[number % 2],
        class_name=EVIL if is_odd else f"heron {number}",
        prompts=[f"a photo of a heron {number} ", LONG],
        num_pairs=num_pairs,
        score_min=0.4 if num_pairs else None,
        score_mean=0.5 + number / 100 if num_pairs else None,
        score_max=0.6 + number / 100 if num_pairs else None,
        best=[_pair(number, i) for i in range(num_pairs)],
        last=[_pair(number, num_pairs)] if num_pairs else [],
        flags=["unnamed", "weak"] if is_odd else [],
        advice=[f"Add a synonym, for example `{LONG}`."] if is_odd else [],
        measures=[("captions that name it", "0 %")],
        z=number / 10,
    )


def _pair(number: int, place: int) -> Pair:
    has_picture = place != 1
    return Pair(
        pair_id=100 * number + place,
        caption=(f"heron no. {number}", "", LONG, EVIL)[place % 4],
        url=f"https://example.org/{LONG}/{place}.jpg",
        score=0.9 - place / 100,
        key="text" if place % 2 else "image",
        prompt="a photo of a heron.",
        picture=picture(100 * number + place, 80) if has_picture else None,
        status="ok" if has_picture else "http_404",
        credit=LONG if place == 2 else "noto, Apache-2.0",
        others=(LONG,) if place == 3 else (),
    )
