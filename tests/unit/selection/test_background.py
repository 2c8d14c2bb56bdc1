from __future__ import annotations

import numpy as np
import pytest

from react_ray.selection.background import Background, num_names, random_names

CAPTIONS = [f"a red{'x' * row} heron by the water{'y' * row}, 2024" for row in range(40)]


def test_a_score_is_measured_in_standard_deviations_of_the_random_queries() -> None:
    background = Background(np.array([0.2, 0.4] * 20 + [np.nan], np.float32))
    assert background.z(0.3) == pytest.approx(0, abs=1e-5) and background.z(0.5) == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("best", [[], [0.1] * 8, [0.5] * 40, [np.nan] * 40])
def test_too_few_random_hits_or_all_the_same_say_nothing(best: list[float]) -> None:
    assert Background(np.array(best, np.float32)).z(0.9) is None


def test_random_names_are_two_words_of_captions_and_no_word_of_a_class() -> None:
    names = random_names(CAPTIONS, ["grey heron", "the Water"], 50, seed=3)
    words = {word for caption in CAPTIONS for word in caption.replace(",", "").split()}
    assert len(set(names)) == 50 and all(len(name.split()) == 2 for name in names)
    assert {word for name in names for word in name.split()} <= words - {"heron", "the", "water", "2024"}
    assert names == random_names(CAPTIONS, ["grey heron", "the Water"], 50, seed=3)
    assert names != random_names(CAPTIONS, ["grey heron", "the Water"], 50, seed=4)


@pytest.mark.parametrize("captions", [[], [None, "", "7"], ["one two three"] * 50])
def test_captions_of_few_words_give_no_names(captions: list[str | None]) -> None:
    assert random_names(captions, [], 10, seed=0) == []


def test_random_prompts_cost_a_fraction_of_the_classes_prompts() -> None:
    assert num_names([["{}"]], 12) == 100
    assert num_names([["{}"] * 80], 80_000) == 100  # ImageNet: 8,000 more prompts
    assert num_names([["{}"] * 80], 800) == 25
    assert num_names([["{}"] * 50] * 20, 50_000) == 16  # ELEVATER
