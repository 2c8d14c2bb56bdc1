"""The search finds the best strength of a smooth curve without trying all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from react_ray.evals.strength import STRENGTHS, search


@pytest.mark.parametrize("best", [0, 1, 15, 16, 40, 47, 90, 96])
def test_the_peak_of_a_smooth_curve_is_found_in_few_trials(best: int) -> None:
    tried: list[float] = []

    def judge(strengths: Sequence[float]) -> list[tuple[float]]:
        tried.extend(strengths)
        return [(-abs(math.log10(strength) - math.log10(STRENGTHS[best])),) for strength in strengths]

    strength, judgement = search(judge)
    assert strength == STRENGTHS[best] and judgement[0] == pytest.approx(0)
    assert len(tried) <= 15


def test_of_equal_judgements_the_first_strength_counts() -> None:
    assert search(lambda strengths: [(0.5,) for _ in strengths]) == (STRENGTHS[0], (0.5,))
    # A later number of the tuple decides between equal first ones.
    strength, _ = search(lambda strengths: [(0.5, -abs(math.log10(one) - 2)) for one in strengths])
    assert strength == pytest.approx(100)
